// The pair head, as in flipkd_sdk/pair_head/scoring.py, for one pair of texts at a time.
import { CUES, CueReader, EARLIER_CUES, weightOfHead } from './cues.js';
import { malformed } from './manifest.js';
import { readArrays } from './npz.js';

const MATCH_FEATURES = 9;
const PAIR_FEATURES = 5;

/** An open pair head. */
export class PairHead {
  constructor(bytes, spec) {
    const arrays = readArrays(bytes, spec.file);
    this.dimension = spec.dimension;
    this.context = Number(arrays.context?.data[0] ?? 0n);
    this.weights = {};
    const [h, m] = [arrays.compare_1_bias?.shape[0], arrays.decide_1_bias?.shape[0]];
    const read = arrays.decide_1?.shape[1] - 4 * h - PAIR_FEATURES;
    this.cueCount = read === EARLIER_CUES ? EARLIER_CUES : CUES;
    const shapes = {
      sharpness: [4], unaligned: [1], cosine: [1], compare_1: [h, 3 * this.dimension + MATCH_FEATURES], compare_1_bias: [h],
      compare_2: [h, h], compare_2_bias: [h], importance: [1, this.dimension], importance_bias: [1],
      decide_1: [m, 4 * h + PAIR_FEATURES + this.cueCount], decide_1_bias: [m], decide_2: [1, m], decide_2_bias: [1],
    };
    for (const [name, shape] of Object.entries(shapes)) {
      const array = arrays[name];
      if (String(array?.shape) !== String(shape) || !array.data.every(Number.isFinite)) {
        throw malformed(`${spec.file}: ${name} is not of shape ${shape}`);
      }
      this.weights[name] = array.data;
    }
    const [negators, words, values] = ['negators', 'number_words', 'number_values'].map((name) => arrays[name]?.data);
    if (!(negators && words && values?.length === words.length && values.every((value) => value > 0))) {
      throw malformed(`${spec.file}: not the words of a language`);
    }
    this.cues = new CueReader(negators, words.map((word, i) => [word, values[i]]));
    if (!(this.context > 0 && this.context < this.dimension)) throw malformed(`${spec.file}: context ${this.context}`);
  }

  /** Return the head's number for two texts: `{ids, vectors}` each, the vectors one after the other. */
  logit(a, b, cosine, allCues) {
    const w = this.weights;
    const cues = allCues.slice(0, this.cueCount);
    let logit = w.decide_2_bias[0] + w.cosine[0] * cosine;
    const weight = weightOfHead(cues);
    if (weight === 0) return logit;
    const [one, other] = [this.#side(a), this.#side(b)];
    const likeness = this.#likeness(one, other);
    const first = this.#read(one, other, likeness, false);
    const second = this.#read(other, one, likeness, true);
    const [long, short] = [Math.log(one.length), Math.log(other.length)];
    const sum = (x, y) => x.map((value, i) => value + y[i]);
    const apart = (x, y) => x.map((value, i) => Math.abs(value - y[i]));
    const features = [
      ...sum(first.tokens, second.tokens), ...apart(first.tokens, second.tokens),
      first.alone + second.alone, Math.abs(first.alone - second.alone),
      cosine, Math.abs(long - short), long + short, ...cues,
    ];
    const hidden = relu(affine(w.decide_1, w.decide_1_bias, features));
    for (let i = 0; i < hidden.length; i += 1) logit += weight * hidden[i] * w.decide_2[i];
    return logit;
  }

  #side({ ids, vectors }) {
    const tokens = Array.from(ids, (_, i) => vectors.subarray(i * this.dimension, (i + 1) * this.dimension));
    return {
      ids, tokens, length: ids.length,
      context: tokens.map((vector) => unit(vector.subarray(0, this.context))),
      lexical: tokens.map((vector) => unit(vector.subarray(this.context))),
    };
  }

  #likeness(a, b) {
    const equal = (i, j) => Number(i >= 0 && j >= 0 && i < a.length && j < b.length && a.ids[i] === b.ids[j]);
    const table = (cell) => Array.from(a.ids, (_, i) => Array.from(b.ids, (_, j) => cell(i, j)));
    return {
      context: table((i, j) => dot(a.context[i], b.context[j])),
      lexical: table((i, j) => dot(a.lexical[i], b.lexical[j])),
      equal: table(equal),
      left: table((i, j) => equal(i - 1, j - 1)),
      right: table((i, j) => equal(i + 1, j + 1)),
    };
  }

  /** Compare each token of a with what it is aligned with in b. */
  #read(a, b, likeness, transposed) {
    const w = this.weights;
    const at = transposed ? (part, i, j) => likeness[part][j][i] : (part, i, j) => likeness[part][i][j];
    const neuronCount = w.compare_1_bias.length;
    const [mean, largest] = [new Array(neuronCount).fill(0), new Array(neuronCount).fill(0)];
    let [total, alone] = [0, 0];
    for (let i = 0; i < a.length; i += 1) {
      const row = (part) => Array.from(b.ids, (_, j) => at(part, i, j));
      const [context, lexical, equal, left, right] = ['context', 'lexical', 'equal', 'left', 'right'].map(row);
      const [shares, unaligned] = this.#align(context, lexical, equal, left, right);
      const vector = a.tokens[i];
      const aligned = new Array(this.dimension).fill(0);
      let alignedIndex = 0;
      shares.forEach((share, j) => {
        for (let d = 0; d < this.dimension; d += 1) aligned[d] += share * b.tokens[j][d];
        alignedIndex += (share * j) / b.length;
      });
      const together = 1 - unaligned;
      alignedIndex /= Math.max(together, 1e-3);
      const difference = Array.from(vector, (value, d) => value - aligned[d]);
      const features = [
        ...Array.from(vector, (value, d) => Math.abs(value * together - aligned[d])),
        ...Array.from(vector, (value, d) => value * aligned[d]),
        ...vector,
        unaligned, Math.abs(alignedIndex - i / a.length) * together,
        Math.max(...context), Math.max(...lexical), Math.max(...equal), dot(shares, left), dot(shares, right),
        rootMeanSquare(difference.slice(0, this.context)), rootMeanSquare(difference.slice(this.context)),
      ];
      const neurons = relu(affine(w.compare_2, w.compare_2_bias, relu(affine(w.compare_1, w.compare_1_bias, features))));
      const reach = Math.min(30, Math.max(-30, dot(vector, w.importance) + w.importance_bias[0]));
      const importance = 1 / (1 + Math.exp(-reach));
      total += importance;
      alone += importance * unaligned;
      neurons.forEach((value, n) => {
        mean[n] += importance * value;
        largest[n] = Math.max(largest[n], value);
      });
    }
    total = Math.max(total, 1e-3);
    return { tokens: [...mean.map((value) => value / total), ...largest], alone: alone / total };
  }

  #align(context, lexical, equal, left, right) {
    const [ofContext, ofLexical, ofEqual, ofNeighbours] = this.weights.sharpness;
    const unaligned = this.weights.unaligned[0];
    const strength = context.map(
      (value, j) => ofContext * value + ofLexical * lexical[j] + ofEqual * equal[j] + ofNeighbours * (left[j] + right[j]),
    );
    const most = Math.max(unaligned, ...strength);
    const shares = strength.map((value) => Math.exp(value - most));
    const alone = Math.exp(unaligned - most);
    const total = shares.reduce((sum, share) => sum + share, alone);
    return [shares.map((share) => share / total), alone / total];
  }
}

function unit(vector) {
  const length = Math.max(Math.sqrt(dot(vector, vector)), 1e-6);
  return Array.from(vector, (value) => value / length);
}

function dot(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i += 1) sum += one[i] * other[i];
  return sum;
}

function affine(weight, bias, input) {
  return Array.from(bias, (value, row) => {
    let sum = value;
    for (let i = 0, at = row * input.length; i < input.length; i += 1) sum += weight[at + i] * input[i];
    return sum;
  });
}

function relu(values) {
  return values.map((value) => Math.max(value, 0));
}

function rootMeanSquare(values) {
  return Math.sqrt(dot(values, values) / values.length);
}
