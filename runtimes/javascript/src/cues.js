// Cues of texts for the pair head, as in flipkd_sdk/pair_head/cues.py.
import { decimal, numbersAmong } from './numbers.js';

const NUMBER_OR_WORD =
  /\p{Nd}+(?:[.,'\u00a0\u202f ]\p{Nd}{3}(?!\p{Nd}))*(?:[.,]\p{Nd}+)?|[\p{L}\p{Nl}\p{No}]+(?:['’][\p{L}\p{Nl}\p{No}]+)*/gu;
const DIGIT = /\p{Nd}/u;
const LETTER = /^\p{L}/u;
const CAPITAL = /^\p{Uppercase}/u;
const WITHOUT_MEANING = /[^\p{L}\p{N}%€$£¥+<>=°]/gu;
const SPECIAL = /[.*+?^${}()|[\]\\]/g;
const FIRST_CJK = '\u2e80';
const SHORT = 4;
/** Number of cues that heads of earlier releases read. */
export const EARLIER_CUES = 10;
export const CUES = 11;
const [FEW, MANY] = [0.3, 0.5];
const TITLE = 0.6;

/** Reads the cues of texts with the negating words and the number words of a language. */
export class CueReader {
  constructor(negators = [], values = []) {
    this.negators = new Set(negators.filter((word) => word < FIRST_CJK));
    // Languages without spaces have no words to look up. The longest sign first.
    const signs = negators.filter((word) => word >= FIRST_CJK).sort((a, b) => b.length - a.length);
    this.signs = signs.length ? new RegExp(signs.map((sign) => sign.replace(SPECIAL, '\\$&')).join('|'), 'gu') : null;
    this.values = new Map(values.map(([word, value]) => [word, decimal(String(value))]));
  }

  /** Return the cues of a text. */
  read(given) {
    const text = given.normalize('NFKC');
    const found = [...text.matchAll(NUMBER_OR_WORD)].map((match) => ({ word: match[0], start: match.index }));
    const words = found.map(({ word }) => folded(word).replaceAll('’', "'"));
    const negating = words.filter((word) => this.negators.has(word)).length;
    const counted = DIGIT.test(text) || words.some((word) => this.values.has(word));
    return {
      plain: folded(text).replace(WITHOUT_MEANING, ''),
      numbers: counted ? numbersAmong(words, this.values) : new Set(),
      negations: negating + (this.signs ? [...text.matchAll(this.signs)].length : 0),
      names: names(text, found),
      words: new Set(words),
      parts: new Set(words.flatMap((word) => (word >= FIRST_CJK ? [...word] : [word]))),
      sorted: JSON.stringify([...words].sort()),
    };
  }
}

/** Return the eleven cues of a pair. */
export function pairCues(a, b) {
  const both = [...a.parts].filter((part) => b.parts.has(part)).length;
  const same = a.plain === b.plain && a.numbers.size === b.numbers.size && isSubset(a.numbers, b.numbers);
  return [
    ...shared(a.numbers, b.numbers, a.numbers, b.numbers),
    ...shared(a.names, b.names, a.words, b.words),
    Math.abs(a.negations - b.negations) % 2 === 1,
    a.negations > 0 && b.negations > 0,
    a.sorted === b.sorted && !same,
    same,
    Math.fround(both / Math.max(a.parts.size + b.parts.size - both, 1)),
  ].map(Number);
}

/** Return how much the head counts for a pair beside the cosine, from its first 10 or all 11 cues. */
export function weightOfHead(cues) {
  const [otherNumbers, otherNames, sameForm, shared] = [cues[1], cues[4], cues[9], cues[10]];
  if (cues.length === EARLIER_CUES) return 1 - sameForm;
  const share = Math.min(Math.max((shared - FEW) / (MANY - FEW), 0), 1);
  return Math.max(share, otherNumbers, otherNames) * (1 - sameForm);
}

function shared(a, b, inA, inB) {
  if (!a.size && !b.size) return [false, false, false];
  const [more, fewer] = [!isSubset(a, inB), !isSubset(b, inA)];
  const some = (one, other) => [...one].some((item) => other.has(item));
  return [some(a, inB) || some(b, inA), more && fewer, more !== fewer];
}

function isSubset(one, other) {
  return [...one].every((item) => other.has(item));
}

function names(text, found) {
  const rest = text.slice(String.fromCodePoint(text.codePointAt(0) ?? 0).length);
  if (rest === rest.toLowerCase() || isUpper(text)) return new Set();
  const words = found.filter(({ word }) => LETTER.test(word));
  const capitals = words.filter(({ word }) => CAPITAL.test(word)).length;
  let firstCounts = false;
  if (capitals > TITLE * words.length) {
    if (words.length > SHORT) return new Set();
    firstCounts = words.length > 1 && words.length === capitals && words.length === found.length;
  }
  const kept = words.filter(({ word, start }) => {
    // "I" and its contractions are no names.
    if (!CAPITAL.test(word) || /^I(?:['’]|$)/u.test(word)) return false;
    const before = text.slice(0, start).replace(/[ \t"'“‘(]+$/u, '');
    return firstCounts || (before !== '' && !/[.!?:\n]$/u.test(before));
  });
  return new Set(kept.map(({ word }) => folded(word)));
}

function isUpper(text) {
  return /\p{Uppercase}/u.test(text) && !/[\p{Lowercase}\p{Lt}]/u.test(text);
}

/** Return a text without case. */
function folded(text) {
  // Twice, because letters such as ß have two capitals; and only the end of a word has another sigma.
  return text.toUpperCase().toLowerCase().replaceAll('ς', 'σ');
}
