// Node.js: directories of the file system and URLs.
import { Tokenizer } from '@huggingface/tokenizers';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-web';
import { MatcherError } from './errors.js';
import { RemoteFiles } from './files.js';
import { matcherClass } from './matcher.js';

/** Files of a directory. */
class LocalFiles {
  constructor(directory) {
    this.directory = directory;
  }

  async read(name, most) {
    const path = join(this.directory, name);
    let file;
    try {
      file = await open(path);
      const { size } = await file.stat();
      if (size > most) throw new MatcherError('changed-file', `${path}: ${size} bytes; at most ${most} are expected`);
      return new Uint8Array(await file.readFile());
    } catch (cause) {
      if (cause instanceof MatcherError) throw cause;
      throw new MatcherError('missing-file', `${path}: cannot be read (${cause.code}); expected a directory made by 'flipkd export'`, { cause });
    } finally {
      await file?.close();
    }
  }
}

function files(location, options) {
  const text = String(location);
  if (text.startsWith('file:')) return new LocalFiles(fileURLToPath(text));
  return /^[a-z][a-z0-9+.-]+:/i.test(text) ? new RemoteFiles(text, options) : new LocalFiles(text);
}

export const Matcher = matcherClass(ort, Tokenizer, files);
export { MatcherError, matcherClass };
