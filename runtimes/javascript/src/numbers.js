// Numbers of a text in digits and in words, as in flipkd_sdk/pair_head/numbers.py: "2,000", "2k" and "two thousand" are one.
const SEPARATOR = /['\u00a0\u202f ]|[.,](?=\p{Nd}{3}(?!\p{Nd}))/gu;
const DIGIT = /\p{Nd}/u;
const LARGEST = decimal('1000000000000000');
const [ZERO, ONE, TEN, HUNDRED] = ['0', '1', '10', '100'].map(decimal);

/** Return an exact decimal number: `units` of a power of ten. */
export function decimal(text) {
  const [mantissa, exponent = '0'] = text.toLowerCase().split('e');
  const [whole, decimals = ''] = mantissa.split('.');
  const shift = Number(exponent);
  const units = BigInt(whole + decimals);
  const scale = decimals.length - shift;
  return scale < 0 ? { units: units * 10n ** BigInt(-scale), scale: 0 } : { units, scale };
}

/** Return the numbers among words, in digits without separators, leading zeros and trailing decimal zeros. */
export function numbersAmong(words, values) {
  const found = new Set();
  let number = null;
  for (const word of words) {
    const named = values.get(word);
    if (number && ((named && number.goesOn(named)) || number.joinedBy(word))) continue;
    number?.write(found);
    if (named) number = new Numeral(named, true);
    else number = DIGIT.test(word) && DIGIT.test(String.fromCodePoint(word.codePointAt(0))) ? new Numeral(literal(word), false) : null;
  }
  number?.write(found);
  return found;
}

/** A number that is read word by word, as in "five thousand two hundred and twenty five" or "2 million". */
class Numeral {
  constructor(value, spelled) {
    [this.done, this.value, this.spelled] = [ZERO, value, spelled];
  }

  /** Take a further number word, or return false if it begins another number. */
  goesOn(named) {
    if (compared(sum(this.done, this.value), LARGEST) >= 0) return false;
    const units = remainder(this.value, HUNDRED);
    const size = compared(named, HUNDRED);
    if (size > 0) {
      [this.done, this.value] = [sum(this.done, product(this.value, named)), ZERO];
    } else if (size === 0) {
      this.value = product(this.value, named);
    } else if (this.spelled && (units.units === 0n ? this.#hundreds() : isTens(units) && compared(named, TEN) < 0)) {
      this.value = sum(this.value, named);
    } else {
      return false;
    }
    return true;
  }

  /** Return true if a word stands between the parts of the number. */
  joinedBy(word) {
    return word === 'and' && this.spelled && this.#hundreds();
  }

  /** Add the number in digits to a set, but not the word "one", which is a pronoun more often than a number. */
  write(found) {
    const total = sum(this.done, this.value);
    if (this.spelled && compared(total, ONE) === 0) return;
    const digits = String(total.units).padStart(total.scale + 1, '0');
    const whole = digits.slice(0, digits.length - total.scale);
    const decimals = digits.slice(digits.length - total.scale).replace(/0+$/, '');
    found.add(decimals && total.scale ? `${whole}.${decimals}` : whole);
  }

  #hundreds() {
    return this.done.units > 0n || compared(this.value, HUNDRED) >= 0;
  }
}

function isTens(units) {
  return compared(units, TEN) > 0 && remainder(units, TEN).units === 0n;
}

function literal(digits) {
  const plain = digits.replace(SEPARATOR, '').replaceAll(',', '.');
  return decimal(plain.replace(/\p{Nd}/gu, (digit) => String(digitValue(digit))));
}

/** Return the value of a decimal digit of any script: those of a script follow each other from 0 to 9. */
function digitValue(digit) {
  const code = digit.codePointAt(0);
  if (code < 0x80) return code - 0x30;
  let first = code;
  while (code - first < 9 && DIGIT.test(String.fromCodePoint(first - 1))) first -= 1;
  // Scripts follow each other without a gap in a few places, each from a multiple of ten behind the first digit.
  return (code - first) % 10;
}

function aligned(one, other) {
  const scale = Math.max(one.scale, other.scale);
  return [one, other].map((number) => number.units * 10n ** BigInt(scale - number.scale)).concat(scale);
}

function compared(one, other) {
  const [x, y] = aligned(one, other);
  return x < y ? -1 : Number(x > y);
}

function sum(one, other) {
  const [x, y, scale] = aligned(one, other);
  return { units: x + y, scale };
}

function product(one, other) {
  return { units: one.units * other.units, scale: one.scale + other.scale };
}

function remainder(one, other) {
  const [x, y, scale] = aligned(one, other);
  return { units: x % y, scale };
}
