// Answers one JSON request a line: {load, options, call, args} → {value} or {code, message}.
import { createInterface } from 'node:readline';
import { Matcher, MatcherError } from '../../../runtimes/javascript/src/node.js';
import { CueReader, pairCues } from '../../../runtimes/javascript/src/cues.js';

const opened = new Map();

function load(directory, options) {
  const key = JSON.stringify([directory, options]);
  if (!opened.has(key)) opened.set(key, Matcher.load(directory, options));
  return opened.get(key);
}

function plain(value) {
  if (value instanceof Float32Array) return Array.from(value);
  return Array.isArray(value) ? value.map(plain) : value;
}

const calls = {
  cues: ([one, other, negators, values]) => {
    const reader = new CueReader(negators, values);
    return pairCues(reader.read(one), reader.read(other));
  },
  twice: async ([directory]) => {
    const [one, other] = await Promise.all([Matcher.load(directory), Matcher.load(directory)]);
    return Promise.all([one.score('card', 'my card'), other.score('card', 'my card'), one.score('card', 'my card')]);
  },
  withoutWebAssembly: async ([directory]) => {
    const { WebAssembly: own } = globalThis;
    try {
      globalThis.WebAssembly = undefined;
      return await Matcher.load(directory);
    } finally {
      globalThis.WebAssembly = own;
    }
  },
  closed: async ([directory]) => {
    const matcher = await Matcher.load(directory);
    await matcher.close();
    return matcher.score('a', 'b');
  },
  abort: async ([url]) => Matcher.load(url, { signal: AbortSignal.abort() }),
};

async function answer({ load: directory, options = {}, call, args = [] }) {
  if (!directory) return calls[call](args);
  const matcher = await load(directory, options);
  if (call === 'ids') return args[0].map((text) => tokensOf(directory, text));
  const value = matcher[call];
  return typeof value === 'function' ? matcher[call](...args) : value;
}

async function tokensOf(directory, text) {
  tokenizers[directory] ??= await makeTokenizer(directory);
  return tokenizers[directory].encode(text).ids;
}

const tokenizers = {};

async function makeTokenizer(directory) {
  const [{ Tokenizer }, { TextTokenizer }, { readFile }] = await Promise.all([
    import('../../../runtimes/javascript/node_modules/@huggingface/tokenizers/dist/tokenizers.mjs'),
    import('../../../runtimes/javascript/src/tokens.js'),
    import('node:fs/promises'),
  ]);
  const [manifest, tokenizer] = await Promise.all(
    ['manifest.json', 'tokenizer.json'].map(async (name) => JSON.parse(await readFile(`${directory}/${name}`, 'utf-8'))),
  );
  return new TextTokenizer(Tokenizer, tokenizer, manifest.tokenizer);
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    const value = await answer(JSON.parse(line));
    reply = { value: plain(Array.isArray(value) ? await Promise.all(value) : value) };
  } catch (error) {
    reply = { code: error instanceof MatcherError ? error.code : error.name, message: error.message };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
