/** Options of `Matcher.load`. */
export interface LoadOptions {
  /** A variant; `auto` takes the first available of int8, fp32, int4, fp16. */
  precision?: 'auto' | 'fp32' | 'fp16' | 'int8' | 'int4';
  /** Score pairs with the pair head, if the directory has one. */
  head?: boolean;
  /** Score of a pair with a blank text: 0, or the model's. */
  onBlank?: 'zero' | 'score';
  /** Action for a text longer than the matcher reads. */
  onTruncate?: 'warn' | 'error' | 'ignore';
  /** Threads of onnxruntime-web; more than one needs a page that is cross-origin isolated. */
  threads?: number;
  /** Replaces the global `fetch`. */
  fetch?: typeof fetch;
  /** Ends the loading. */
  signal?: AbortSignal;
}

/** Options of a ranking. */
export interface RankOptions {
  /** Largest number of matches; `Infinity` for all. */
  topK?: number;
  /** Smallest score of a match. */
  scoreCutoff?: number | null;
  /** Number of candidates that the pair head decides on; 0 ranks by the cosine. */
  rescore?: number;
}

/** A candidate with its score. */
export interface Match {
  index: number;
  text: string;
  score: number;
}

/** Texts that were encoded once. */
export interface Candidates {
  readonly texts: string[];
  readonly vectors: Float32Array[];
  rank(query: string, options?: RankOptions): Promise<Match[]>;
}

/** A matcher directory that was opened and checked. */
export declare class Matcher {
  /** Open a directory by URL, or in Node.js by path. Throws `MatcherError`. */
  static load(location: string | URL, options?: LoadOptions): Promise<Matcher>;
  /** Content of `manifest.json`. */
  readonly manifest: Record<string, unknown>;
  readonly precision: string;
  /** Score from which on a pair is a match. */
  readonly threshold: number;
  /** Length of the vectors. */
  readonly dimension: number;
  /** Return the match probability of two texts. */
  score(a: string, b: string): Promise<number>;
  /** Return the match probability of each pair; each distinct text is encoded once. */
  scorePairs(pairs: Iterable<[string, string]>): Promise<Float32Array>;
  isMatch(a: string, b: string): Promise<boolean>;
  /** Return unit vectors; the cosine of two of them is their dot product. */
  encode(texts: Iterable<string>): Promise<Float32Array[]>;
  /** Encode texts once, to rank them for many queries. */
  candidates(texts: Iterable<string>): Promise<Candidates>;
  /** Return the candidates that match a query best, best first. */
  rank(query: string, candidates: Iterable<string>, options?: RankOptions): Promise<Match[]>;
  /** Release the model. */
  close(): Promise<void>;
}

/** An error that the matcher raises on purpose. */
export declare class MatcherError extends Error {
  readonly code:
    | 'changed-file' | 'closed' | 'execution' | 'fetch-failed' | 'insecure' | 'invalid-option' | 'invalid-text'
    | 'malformed' | 'missing-file' | 'no-variant' | 'no-webassembly' | 'other-vectors' | 'too-long' | 'unsupported-format';
}

/** Return `Matcher` for modules of your own: onnxruntime-web and the class of @huggingface/tokenizers. */
export declare function matcherClass(ort: unknown, Tokenizer: unknown): typeof Matcher;
