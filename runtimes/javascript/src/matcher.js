// The matcher: the same scores as flipkd_sdk.Matcher in Python.
import { pairCues } from './cues.js';
import { Encoder } from './encoder.js';
import { MatcherError } from './errors.js';
import { RemoteFiles } from './files.js';
import { PairHead } from './head.js';
import { choosePrecision, parse, readManifest, readNamed } from './manifest.js';
import { isBlank, paddedLength, TextTokenizer } from './tokens.js';

const DEFAULTS = { precision: 'auto', head: true, onBlank: 'zero', onTruncate: 'warn', threads: 1 };
const CHOICES = { onBlank: ['zero', 'score'], onTruncate: ['warn', 'error', 'ignore'] };

/**
 * Return the class `Matcher` for one runtime.
 * @param ort the module onnxruntime-web
 * @param Tokenizer the class of @huggingface/tokenizers
 * @param open returns the files of a location, if it is no URL
 */
export function matcherClass(ort, Tokenizer, open = (location, options) => new RemoteFiles(location, options)) {
  let opening = Promise.resolve();

  /** Create one session at a time: onnxruntime-web refuses to start twice at once. */
  function session(bytes, threads) {
    const created = opening.then(() => {
      ort.env.wasm.numThreads = threads;
      return ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], enableCpuMemArena: false });
    });
    opening = created.catch(() => {});
    return created;
  }

  return class Matcher {
    #opened;
    #options;

    constructor(opened, options) {
      this.#opened = opened;
      this.#options = options;
    }

    static async load(location, options = {}) {
      const chosen = checked(options);
      if (typeof WebAssembly !== 'object') {
        throw new MatcherError('no-webassembly', 'this JavaScript engine has no WebAssembly, which onnxruntime-web needs');
      }
      const files = open(location, options);
      const manifest = await readManifest(files);
      const precision = choosePrecision(manifest, chosen.precision);
      const variant = manifest.variants[precision];
      const withHead = chosen.head && Boolean(manifest.head);
      const [tokenizer, model, head, selfTest] = await Promise.all([
        readNamed(files, manifest.tokenizer, 'tokenizer'),
        readNamed(files, variant, 'model'),
        withHead ? readNamed(files, manifest.head, 'head') : null,
        manifest.self_test ? readNamed(files, manifest.self_test, 'self_test') : null,
      ]);
      const texts = new TextTokenizer(Tokenizer, parse(tokenizer, manifest.tokenizer.file), manifest.tokenizer);
      let created;
      try {
        created = await session(model, chosen.threads);
      } catch (cause) {
        throw new MatcherError('execution', `${variant.file}: onnxruntime-web cannot open it (${cause?.message ?? cause})`, { cause });
      }
      const sizes = { dimension: manifest.encoder.dimension, tokenDimension: manifest.head?.dimension ?? 0 };
      const encoder = new Encoder(ort, created, manifest.tokenizer, sizes);
      if (selfTest) await encoder.check(selfTest, precision, variant.file);
      const opened = { manifest, precision, tokenizer: texts, encoder, head: withHead ? new PairHead(head, manifest.head) : null };
      return new Matcher(opened, chosen);
    }

    get manifest() {
      return this.#open().manifest;
    }

    get precision() {
      return this.#open().precision;
    }

    get threshold() {
      return this.#calibration().threshold;
    }

    get dimension() {
      return this.manifest.encoder.dimension;
    }

    async score(a, b) {
      return (await this.scorePairs([[a, b]]))[0];
    }

    async isMatch(a, b) {
      return (await this.score(a, b)) >= this.threshold;
    }

    async scorePairs(pairs) {
      const list = Array.from(pairs, (pair, i) => {
        if (!Array.isArray(pair) || pair.length !== 2) throw new MatcherError('invalid-text', `pair ${i}: expected two texts`);
        return pair;
      });
      const texts = new Texts(list.flat(), (i) => `pair ${i >> 1}, ${['first', 'second'][i & 1]} text`);
      const encoded = await this.#encode(texts, this.#open().head !== null);
      return Float32Array.from(list, (_, i) => this.#score(texts, encoded, texts.index[2 * i], texts.index[2 * i + 1]));
    }

    async encode(list) {
      const texts = new Texts(several(list, 'texts'), (i) => `text ${i}`);
      const encoded = await this.#encode(texts, false);
      return texts.index.map((i) => encoded[i].vector);
    }

    /** Encode texts once, to rank them for many queries. */
    async candidates(list) {
      const own = Array.from(several(list, 'candidates'));
      const vectors = await this.encode(own);
      return { texts: own, vectors, rank: (query, options) => this.#rank(query, own, vectors, options) };
    }

    async rank(query, candidates, options) {
      return (await this.candidates(candidates)).rank(query, options);
    }

    async close() {
      const opened = this.#opened;
      this.#opened = null;
      await opened?.encoder.session.release();
    }

    #open() {
      if (!this.#opened) throw new MatcherError('closed', 'this matcher was closed; load it again');
      return this.#opened;
    }

    #calibration() {
      const { manifest, head } = this.#open();
      return head ? manifest.head.calibration : manifest.calibration;
    }

    async #encode(texts, withTokens) {
      const { tokenizer, encoder } = this.#open();
      const lists = texts.distinct.map((text) => tokenizer.encode(text));
      const cut = lists.findIndex((list) => list.cut);
      if (cut >= 0 && this.#options.onTruncate !== 'ignore') {
        const message = `longer than the ${tokenizer.maxLength} tokens that this matcher reads`;
        if (this.#options.onTruncate === 'error') throw new MatcherError('too-long', `${texts.nameOf(cut)}: ${message}`);
        console.warn(`flipkd: ${lists.filter((list) => list.cut).length} of ${lists.length} texts are ${message} and were cut off`);
      }
      return encoder.encode(lists.map((list) => list.ids), withTokens);
    }

    #score(texts, encoded, a, b) {
      if (this.#options.onBlank === 'zero' && (isBlank(texts.distinct[a]) || isBlank(texts.distinct[b]))) return 0;
      const cosine = cosineOf(encoded[a].vector, encoded[b].vector);
      return probability(this.#calibration(), this.#value(texts, encoded, a, b, cosine));
    }

    #value(texts, encoded, a, b, cosine) {
      const { head, encoder } = this.#open();
      if (!head) return cosine;
      // Either order of two texts becomes the same one, so that both have the same score.
      const key = (i) => [paddedLength(encoded[i].tokens.ids.length, encoder.maxLength), texts.distinct[i]];
      const [[wide, one], [wider, other]] = [key(a), key(b)];
      const [x, y] = wide > wider || (wide === wider && one > other) ? [b, a] : [a, b];
      const cues = pairCues(...[x, y].map((index) => head.cues.read(texts.distinct[index])));
      return Math.fround(head.logit(encoded[x].tokens, encoded[y].tokens, cosine, cues));
    }

    async #rank(query, candidates, vectors, { topK = 10, scoreCutoff = null, rescore = 10 } = {}) {
      count('topK', topK, 1);
      count('rescore', rescore, 0);
      const { manifest, head } = this.#open();
      const [own] = await this.encode([query]);
      const zero = (text) => this.#options.onBlank === 'zero' && isBlank(text);
      const proposed = candidates.map((text, index) => ({
        index, text, score: zero(text) || zero(query) ? 0 : probability(manifest.calibration, cosineOf(own, vectors[index])),
      }));
      const best = (one, other) => other.score - one.score || one.index - other.index;
      const decided = head && rescore ? Math.max(topK, rescore) : topK;
      let found = proposed.sort(best).slice(0, decided);
      if (head && rescore) {
        const scores = await this.scorePairs(found.map(({ text }) => [query, text]));
        found = found.map((match, i) => ({ ...match, score: scores[i] })).sort(best).slice(0, topK);
      }
      return found.filter(({ score }) => scoreCutoff === null || score >= scoreCutoff);
    }
  };
}

/** The distinct texts of one call and their positions in it. */
class Texts {
  constructor(list, name) {
    const indices = new Map();
    this.index = Array.from(list, (text, i) => {
      if (typeof text !== 'string') throw new MatcherError('invalid-text', `${name(i)}: expected a string, found ${text === null ? 'null' : typeof text}`);
      if (!indices.has(text)) indices.set(text, indices.size);
      return indices.get(text);
    });
    this.distinct = [...indices.keys()];
    this.nameOf = (i) => name(this.index.indexOf(i));
  }
}

function several(list, what) {
  if (typeof list === 'string' || typeof list?.[Symbol.iterator] !== 'function') {
    throw new MatcherError('invalid-text', `${what}: expected a list of texts`);
  }
  return list;
}

function count(name, value, least) {
  if (!(Number.isInteger(value) || value === Infinity) || value < least) {
    throw new MatcherError('invalid-option', `${name} must be an integer of at least ${least}; it is ${value}`);
  }
}

function checked(options) {
  const chosen = { ...DEFAULTS };
  for (const [name, value] of Object.entries(options)) {
    if (!(name in DEFAULTS) && name !== 'fetch' && name !== 'signal') {
      throw new MatcherError('invalid-option', `unknown option ${name}; there are: ${Object.keys(DEFAULTS).join(', ')}, fetch, signal`);
    }
    if (value === undefined || !(name in DEFAULTS)) continue;
    if (typeof value !== typeof DEFAULTS[name] || (CHOICES[name] && !CHOICES[name].includes(value))) {
      throw new MatcherError('invalid-option', `${name} must be ${CHOICES[name]?.join(' or ') ?? `a ${typeof DEFAULTS[name]}`}; it is ${value}`);
    }
    chosen[name] = value;
  }
  count('threads', chosen.threads, 1);
  return chosen;
}

function cosineOf(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i += 1) sum += one[i] * other[i];
  return Math.fround(sum);
}

function probability({ slope, intercept }, value) {
  return Math.fround(1 / (1 + Math.exp(-(slope * value + intercept))));
}
