/** An error that the matcher raises on purpose; `code` is stable, the message names the file and the remedy. */
export class MatcherError extends Error {
  /** @param {string} code @param {string} message @param {{cause?: unknown}} [options] */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'MatcherError';
    this.code = code;
  }
}
