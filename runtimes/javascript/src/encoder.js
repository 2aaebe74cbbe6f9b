// Texts → unit vectors, in batches that no vector depends on, as flipkd_sdk/runtimes/encoding does.
import { MatcherError } from './errors.js';
import { parse } from './manifest.js';
import { paddedLength } from './tokens.js';

const BATCH_TOKENS = 512;
const REFERENCE_DISTANCE = 0.05;

/** A session; runs one batch at a time, because WebAssembly has one thread of control. */
export class Encoder {
  #last = Promise.resolve();

  constructor(ort, session, spec, { dimension, tokenDimension }) {
    Object.assign(this, { ort, session, maxLength: spec.max_length, paddingId: spec.empty_token_id, dimension, tokenDimension });
  }

  /** Return `{vector, tokens}` for each list of ids; `tokens` are the pair head's, if asked for. */
  async encode(lists, withTokens = false) {
    const groups = new Map();
    lists.forEach((ids, i) => {
      const width = paddedLength(ids.length, this.maxLength);
      groups.set(width, [...(groups.get(width) ?? []), i]);
    });
    const encoded = new Array(lists.length);
    for (const [width, rows] of [...groups].sort(([one], [other]) => one - other)) {
      const step = Math.max(1, Math.floor(BATCH_TOKENS / width));
      for (let start = 0; start < rows.length; start += step) {
        await this.#batch(lists, rows.slice(start, start + step), width, withTokens, encoded);
      }
    }
    return encoded;
  }

  async #batch(lists, rows, width, withTokens, encoded) {
    const ids = new BigInt64Array(rows.length * width).fill(BigInt(this.paddingId));
    const mask = new BigInt64Array(rows.length * width);
    rows.forEach((row, i) => lists[row].forEach((id, j) => {
      ids[i * width + j] = BigInt(id);
      mask[i * width + j] = 1n;
    }));
    const shape = [rows.length, width];
    const feeds = {
      input_ids: new this.ort.Tensor('int64', ids, shape),
      attention_mask: new this.ort.Tensor('int64', mask, shape),
    };
    const names = ['sentence_embedding', ...(withTokens ? ['token_vectors'] : [])];
    const outputs = await this.#run(feeds, names);
    const [vectors, tokens] = names.map((name) => outputs[name].data);
    rows.forEach((row, i) => {
      const size = this.tokenDimension;
      const from = i * width * size;
      encoded[row] = {
        vector: vectors.slice(i * this.dimension, (i + 1) * this.dimension),
        tokens: withTokens ? { ids: lists[row], vectors: tokens.slice(from, from + lists[row].length * size) } : null,
      };
    });
  }

  async #run(feeds, names) {
    const run = this.#last.then(() => this.session.run(feeds, names));
    this.#last = run.catch(() => {});
    try {
      return await run;
    } catch (cause) {
      throw new MatcherError('execution', `the model could not be run: ${cause?.message ?? cause}`, { cause });
    }
  }

  /** Compare the vectors of the self-test's sample with those at export. */
  async check(bytes, precision, file) {
    const sample = parse(bytes, 'self_test.json');
    const expected = halves(sample.vectors[precision] ?? '');
    const found = await this.encode(sample.token_ids);
    const distances = found.map(({ vector }, i) => {
      const stored = expected.subarray(i * this.dimension, (i + 1) * this.dimension);
      return Math.sqrt(vector.reduce((sum, value, d) => sum + (value - stored[d]) ** 2, 0));
    });
    const median = distances.sort((one, other) => one - other)[distances.length >> 1];
    if (!(median <= REFERENCE_DISTANCE)) {
      throw new MatcherError('other-vectors', `${file}: returns other vectors here than at export, ${median.toFixed(3)} away; load another precision`);
    }
    return median;
  }
}

/** Decode float16 numbers in base64. */
function halves(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length >> 1 }, (_, i) => {
    const bits = view.getUint16(2 * i, true);
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}
