// Reading of the directory's files, by fetch; node.js reads paths of the file system.
import { MatcherError } from './errors.js';

/** Files below a URL. */
export class RemoteFiles {
  /** @param {string|URL} location @param {{fetch?: typeof fetch, signal?: AbortSignal}} options */
  constructor(location, { fetch: own, signal } = {}) {
    const base = globalThis.document?.baseURI ?? globalThis.location?.href;
    const url = new URL(String(location), base);
    if (!url.pathname.endsWith('/')) url.pathname += '/';
    this.base = url;
    this.fetch = own ?? ((...request) => globalThis.fetch(...request));
    this.signal = signal;
  }

  /** Return a file's bytes; `most` is checked before the body is read to its end. */
  async read(name, most) {
    const url = new URL(encodeURIComponent(name), this.base);
    try {
      const response = await this.fetch(url, { signal: this.signal });
      if (!response.ok) throw new MatcherError('missing-file', `${url}: HTTP status ${response.status}`);
      return await body(response, url, most);
    } catch (cause) {
      if (cause instanceof MatcherError || cause?.name === 'AbortError') throw cause;
      throw new MatcherError('fetch-failed', `${url}: could not be fetched whole (${cause?.message ?? cause}); try again`, { cause });
    }
  }
}

async function body(response, url, most) {
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new MatcherError('changed-file', `${url}: more than ${most} bytes; it was changed`);
    }
    parts.push(value);
  }
  const whole = new Uint8Array(size);
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}
