// Browsers and bundlers: directories below a URL.
import { Tokenizer } from '@huggingface/tokenizers';
import * as ort from 'onnxruntime-web/wasm';
import { MatcherError } from './errors.js';
import { matcherClass } from './matcher.js';

export const Matcher = matcherClass(ort, Tokenizer);
export { MatcherError, matcherClass };
