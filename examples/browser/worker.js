// The matcher in a thread of its own, so that the page never freezes. Workers have no import map, so files are named.
import { matcherClass } from './flipkd/matcher.js';
import * as ort from './vendor/ort.wasm.bundle.min.mjs';
import { Tokenizer } from './vendor/tokenizers.min.mjs';

ort.env.wasm.wasmPaths = new URL('./vendor/', import.meta.url).href;
const Matcher = matcherClass(ort, Tokenizer);

const started = performance.now();
const loading = (async () => {
  const [matcher, faq] = await Promise.all([Matcher.load('./matcher'), fetch('./faq.json').then((found) => found.json())]);
  const candidates = await matcher.candidates(faq);
  postMessage({ ready: { texts: faq.length, milliseconds: performance.now() - started } });
  return { matcher, candidates };
})();
loading.catch((error) => postMessage({ error: error.message }));

let newest = 0;
addEventListener('message', async ({ data: { number, text } }) => {
  newest = number;
  const { matcher, candidates } = await loading;
  // Only the newest question is worth an answer.
  if (number !== newest) return;
  const start = performance.now();
  const matches = text.trim() ? await candidates.rank(text, { topK: 5, rescore: 5 }) : [];
  postMessage({ number, matches, threshold: matcher.threshold, milliseconds: performance.now() - start });
});
