// The checks of a matcher directory that flipkd_sdk/artifact/manifest.py makes in Python.
import { MatcherError } from './errors.js';

const FORMAT_VERSION = 3;
const SCORING_VERSION = 1;
const MAX_BYTES = { 'manifest.json': 1 << 20, tokenizer: 1 << 26, model: 2 ** 31 - 1, head: 1 << 21, self_test: 1 << 20 };
const PREFERRED = ['int8', 'fp32', 'int4', 'fp16'];

/** Read and check `manifest.json`. */
export async function readManifest(files) {
  const bytes = await files.read('manifest.json', MAX_BYTES['manifest.json']);
  const manifest = parse(bytes, 'manifest.json');
  const version = manifest?.format_version;
  if (!Number.isInteger(version) || version < 1) throw malformed('manifest.json: no format version');
  if (version > FORMAT_VERSION) {
    throw new MatcherError(
      'unsupported-format',
      `manifest.json: format version ${version} is newer than this release reads (${FORMAT_VERSION}); upgrade @flipkd/matcher`,
    );
  }
  if (manifest.scoring_version !== SCORING_VERSION) {
    throw new MatcherError(
      'unsupported-format',
      `manifest.json: scoring version ${manifest.scoring_version} instead of ${SCORING_VERSION}; upgrade @flipkd/matcher`,
    );
  }
  const { tokenizer, encoder, variants } = manifest;
  if (!(tokenizer?.max_length >= 1) || !(encoder?.dimension >= 1) || !Object.keys(variants ?? {}).length) {
    throw malformed('manifest.json: no tokenizer, encoder or variants');
  }
  if (!Number.isInteger(tokenizer.empty_token_id)) throw malformed('manifest.json: no empty_token_id');
  for (const fitted of [manifest.calibration, ...(manifest.head ? [manifest.head.calibration] : [])]) {
    const numbers = [fitted?.slope, fitted?.intercept, fitted?.threshold];
    if (!numbers.every(Number.isFinite) || fitted.slope <= 0 || fitted.threshold < 0 || fitted.threshold > 1) {
      throw malformed('manifest.json: no calibration of finite numbers');
    }
  }
  return manifest;
}

/** Return the precision to load. */
export function choosePrecision(manifest, asked) {
  const available = Object.keys(manifest.variants);
  if (asked === 'auto') return PREFERRED.find((name) => available.includes(name)) ?? available[0];
  if (!available.includes(asked)) {
    throw new MatcherError('no-variant', `this matcher has no ${asked} variant; it has: ${available.join(', ')}`);
  }
  return asked;
}

/** Read a file that the manifest names, and compare its size and SHA-256. */
export async function readNamed(files, entry, kind) {
  const name = entry?.file;
  if (typeof name !== 'string' || !/^[^/\\:\0-\x1f]+$/.test(name) || name === '.' || name === '..') {
    throw malformed(`${String(name)} is not a plain file name`);
  }
  if (!(entry.bytes <= MAX_BYTES[kind])) throw malformed(`${name}: ${entry.bytes} bytes; at most ${MAX_BYTES[kind]}`);
  const bytes = await files.read(name, entry.bytes);
  if (bytes.length !== entry.bytes) {
    throw new MatcherError('changed-file', `${name}: ${bytes.length} bytes instead of ${entry.bytes}; it was changed or cut short`);
  }
  if ((await sha256(bytes)) !== entry.sha256) {
    throw new MatcherError('changed-file', `${name}: its SHA-256 differs from the manifest's; the file was changed`);
  }
  return bytes;
}

/** Parse JSON, or throw an error that names the file. */
export function parse(bytes, name) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new MatcherError('malformed', `${name}: not valid JSON; export the matcher again`, { cause });
  }
}

/** Return an error about the content of a directory. */
export function malformed(message) {
  return new MatcherError('malformed', `${message}; export the matcher again`);
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new MatcherError('insecure', 'SHA-256 is not available: serve the page over https or from localhost');
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
