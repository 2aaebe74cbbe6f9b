// Cues of a text for the pair head, as in flipkd_sdk/pair_head/cues.py.
const NUMBER = /\p{Nd}+(?:[.,'\u00a0\u202f ]\p{Nd}{3}(?!\p{Nd}))*(?:[.,]\p{Nd}+)?/gu;
const SEPARATOR = /['\u00a0\u202f ]|[.,](?=\p{Nd}{3}(?!\p{Nd}))/gu;
const WITHOUT_MEANING = /[^\p{L}\p{N}%€$£¥+<>=°]/gu;

/** Return a text without case, spaces and punctuation, and its numbers. */
export function cuesOf(text) {
  const normal = text.normalize('NFKC');
  // Twice, because letters such as ß have two capitals; and only the end of a word has another sigma.
  const folded = normal.toUpperCase().toLowerCase().replaceAll('ς', 'σ');
  return { plain: folded.replace(WITHOUT_MEANING, ''), numbers: numbers(normal) };
}

/** Return the four cues of a pair. */
export function pairCues(a, b) {
  const shared = [...a.numbers].some((number) => b.numbers.has(number));
  const [more, fewer] = [lacking(a.numbers, b.numbers), lacking(b.numbers, a.numbers)];
  const same = a.plain === b.plain && !more && !fewer;
  return [shared, more && fewer, more !== fewer, same].map(Number);
}

function lacking(one, other) {
  return [...one].some((number) => !other.has(number));
}

function numbers(text) {
  const found = new Set();
  for (const [match] of text.matchAll(NUMBER)) {
    const plain = match.replace(SEPARATOR, '').replaceAll(',', '.');
    const point = plain.indexOf('.');
    const whole = (point < 0 ? plain : plain.slice(0, point)).replace(/^0+/, '') || '0';
    const decimals = point < 0 ? '' : plain.slice(point + 1).replace(/0+$/, '');
    found.add(decimals ? `${whole}.${decimals}` : whole);
  }
  return found;
}
