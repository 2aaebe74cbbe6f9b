// Texts → token ids, truncated and padded as flipkd_sdk/runtimes/encoding does.
import { malformed } from './manifest.js';

const LENGTH_STEP = 4;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
// Python's str.isspace, which String.trim is not.
const BLANK = /^[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;

/** Return whether a text is empty or white space alone. */
export function isBlank(text) {
  return BLANK.test(text);
}

/** Return the padded length of a text. */
export function paddedLength(length, maxLength) {
  return Math.min(Math.ceil(length / LENGTH_STEP) * LENGTH_STEP, maxLength);
}

/** A tokenizer that truncates. */
export class TextTokenizer {
  constructor(Tokenizer, content, spec) {
    this.maxLength = spec.max_length;
    this.paddingId = spec.empty_token_id;
    try {
      this.tokenizer = new Tokenizer(content, {});
      [this.front, this.back] = this.#special();
    } catch (cause) {
      throw malformed(`${spec.file}: @huggingface/tokenizers cannot read it (${cause?.message ?? cause})`);
    }
    this.room = this.maxLength - this.front.length - this.back.length;
    if (this.room < 1) throw malformed(`${spec.file}: max_length ${this.maxLength} leaves no room for a text`);
  }

  /** Return the ids of a text, at least one, and whether it was cut. */
  encode(text) {
    const ids = this.#ids(text.replace(LONE_SURROGATE, '\ufffd'), false);
    const cut = ids.length > this.room;
    const whole = [...this.front, ...(cut ? ids.slice(0, this.room) : ids), ...this.back];
    return { ids: whole.length ? whole : [this.paddingId], cut };
  }

  #ids(text, special) {
    return this.tokenizer.encode(text, { add_special_tokens: special }).ids;
  }

  /** Return the special tokens in front of a text and behind it. */
  #special() {
    const [plain, whole] = [this.#ids('a', false), this.#ids('a', true)];
    const more = whole.length - plain.length;
    for (let start = 0; start <= more; start += 1) {
      if (plain.every((id, i) => whole[start + i] === id)) return [whole.slice(0, start), whole.slice(start + plain.length)];
    }
    throw new Error('special tokens change a text');
  }
}
