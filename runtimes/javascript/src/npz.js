// Reading of the arrays that numpy.savez wrote: a zip archive whose members are stored as they are.
import { malformed } from './manifest.js';

const TYPES = { '<f4': Float32Array, '<f8': Float64Array, '<i8': BigInt64Array };

/** Return the arrays of an archive by name, each as `{data, shape}`. */
export function readArrays(bytes, name) {
  try {
    return members(bytes);
  } catch (cause) {
    throw malformed(`${name}: not an archive of arrays (${cause.message})`);
  }
}

function members(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error('no directory');
  const arrays = {};
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 24, true)];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const start = view.getUint32(at + 42, true);
    const file = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (method !== 0) throw new Error(`${file} is compressed`);
    const content = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
    arrays[file.replace(/\.npy$/, '')] = array(bytes.slice(content, content + size));
    at += 46 + nameLength + extra + comment;
  }
  return arrays;
}

function array(bytes) {
  const view = new DataView(bytes.buffer);
  const wide = bytes[6] >= 2;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (wide ? 12 : 10) + length;
  const header = new TextDecoder('latin1').decode(bytes.subarray(wide ? 12 : 10, start));
  const [, type] = header.match(/'descr': '([^']+)'/) ?? [];
  const [, shape] = header.match(/'shape': \(([^)]*)\)/) ?? [];
  const letters = Number(type?.match(/^<U(\d+)$/)?.[1] ?? 0);
  if ((!TYPES[type] && !letters) || shape === undefined || header.includes("'fortran_order': True")) throw new Error(header.trim());
  const sizes = shape.split(',').filter((part) => part.trim()).map(Number);
  const content = bytes.slice(start);
  const data = letters ? texts(new Uint32Array(content.buffer), letters) : new TYPES[type](content.buffer);
  if (data.length !== sizes.reduce((product, size) => product * size, 1)) throw new Error('a shape that does not fit');
  return { data, shape: sizes };
}

/** Return the texts of an array of UTF-32, each padded with zeros to one length. */
function texts(codes, letters) {
  return Array.from({ length: codes.length / letters }, (_, row) => {
    const own = codes.subarray(row * letters, (row + 1) * letters);
    return String.fromCodePoint(...own).replace(/\0+$/, '');
  });
}
