import {
  ConfigError,
  checkInteger,
  checkOptions,
  FormatError,
  quote,
  type Tensor,
  tensor2d,
  tensor3d,
} from '@ashlar/tensor';

/** Labels of a path: of padding, the two ends of a sequence, and where a token is in the structure around it. */
const [PAD, SOS, EOS, MAIN, LEFT, RIGHT] = [0, 1, 2, 3, 4, 5];

export interface PositionForest {
  /** For each token where it is, outermost structure first, closed by 3 (main): 4 left or upper, 5 right or lower. */
  readonly paths: readonly (readonly number[])[];
  /** The first `maxDepth` labels of each path, padded by 0: `[tokens, maxDepth]`. */
  readonly identifiers: Int8Array;
  /** How deep each token is nested: the labels before the 3, `maxDepth - 1` at most. */
  readonly level: Int32Array;
  /** The last label before the 3, among the first `maxDepth`; the only one of a path of one. */
  readonly position: Int32Array;
}

/**
 * Where each token of a LaTeX formula is nested, read off the formula itself: of `^ { X }` and the index of a root X is
 * left (upper), of `_ { X }` and under a root right (lower), of `\frac { A } { B }` A is left and B right. Commands and
 * braces of a structure belong to the level around it; every other token is ordinary, braces of no structure too.
 *
 * Source: Guan et al., "PosFormer: Recognizing Complex Handwritten Mathematical Expression with Position Forest
 * Transformer" (ECCV 2024, arXiv 2407.07764).
 * @param tokens as the vocabulary has them: `['x', '^', '{', '2', '}']`.
 * @param options.maxDepth labels that identifiers keep. Default 5.
 * @throws FormatError naming the token where braces do not match or a structure lacks its braces; ConfigError for a formula
 *   that is no list of tokens.
 */
export function positionForest(tokens: readonly string[], options: { maxDepth?: number } = {}): PositionForest {
  const { maxDepth = 5 } = options;
  checkInteger('positionForest', 'maxDepth', maxDepth, 2);
  checkTokens('positionForest: ', tokens);
  const paths = nestedPaths(tokens);
  return { paths, ...labels(paths, maxDepth) };
}

/** What the step at each token is to predict: the label of the next one. The last step gets the first label. */
export function positionTargets(labels: Int32Array): Int32Array {
  const targets = new Int32Array(labels.length);
  for (let i = 0; i < labels.length; i++) targets[i] = labels[(i + 1) % labels.length];
  return targets;
}

export interface BidirectionalOptions {
  /** The id of each token of the vocabulary. */
  readonly ids: ReadonlyMap<string, number>;
  /** The ids of padding, start and end. Default 0, 1 and 2. */
  readonly pad?: number;
  readonly sos?: number;
  readonly eos?: number;
  /** As in `positionForest`. */
  readonly maxDepth?: number;
}

export interface BidirectionalTargets {
  /** What the decoders see, `[2 batch, T]`, int32: `sos w1 … wn`, for all formulas, then `eos wn … w1`. */
  readonly input: Tensor;
  /** The tokens to predict: `w1 … wn eos`, then `wn … w1 sos`. */
  readonly output: Tensor;
  /** Of the input: float32 `[2 batch, T, maxDepth]`, and int32 `[2 batch, T]` each. */
  readonly identifiers: Tensor;
  readonly level: Tensor;
  readonly position: Tensor;
  /** What the position decoder is to predict, `[2 batch, T]`, int32. */
  readonly levelTarget: Tensor;
  readonly positionTarget: Tensor;
  /** Of the input: 1 stands for the start, 2 for the end and 0 for padding. */
  readonly paths: readonly (readonly number[])[][];
}

/**
 * Inputs and targets of formulas read in both directions; rows are padded to the longest formula and one. The labels of a
 * reversed row are those of the formula, reversed. The caller disposes of the tensors.
 * @throws FormatError naming formula and token for malformed LaTeX and for a token that `ids` does not have; ConfigError for
 *   a formula that is no list of tokens, or an option out of range.
 */
export function bidirectionalTargets(
  formulas: readonly (readonly string[])[],
  options: BidirectionalOptions,
): BidirectionalTargets {
  const { ids, pad = 0, sos = 1, eos = 2, maxDepth = 5 } = checkOptions('bidirectionalTargets', options);
  checkInteger('bidirectionalTargets', 'maxDepth', maxDepth, 2);
  if (typeof ids?.get !== 'function') {
    throw new ConfigError(`bidirectionalTargets: ids is ${quote(ids)}; it must be a Map from tokens to their numbers.`);
  }
  if (!Array.isArray(formulas) || formulas.length === 0)
    throw new FormatError('bidirectionalTargets: there are no formulas.');
  for (const [formula, tokens] of formulas.entries()) checkTokens(`Formula ${formula}: `, tokens);
  const width = Math.max(...formulas.map(({ length }) => length)) + 1;
  const padded = <T>(row: readonly T[], filler: T): T[] => [...row, ...Array<T>(width - row.length).fill(filler)];
  const read = formulas.map((tokens, formula) => {
    const numbers = (tokens as readonly string[]).map((token, i) => {
      const id = ids.get(token);
      if (id !== undefined) return id;
      throw new FormatError(`Formula ${formula}: token ${i} is ${quote(token)}, which is not in the vocabulary.`);
    });
    return { numbers, paths: nestedPaths(tokens, `Formula ${formula}: `) };
  });
  const rows = [
    ...read.map(({ numbers, paths }) => ({
      input: [sos, ...numbers],
      output: [...numbers, eos],
      paths: [[SOS], ...paths],
    })),
    ...read.map(({ numbers, paths }) => ({
      input: [eos, ...[...numbers].reverse()],
      output: [...[...numbers].reverse(), sos],
      paths: [[EOS], ...[...paths].reverse()],
    })),
  ].map(({ input, output, paths }) => ({
    input: padded(input, pad),
    output: padded(output, pad),
    paths: padded<readonly number[]>(paths, [PAD]),
  }));
  const labelled = rows.map(({ paths }) => labels(paths, maxDepth));
  const shape: [number, number] = [rows.length, width];
  const matrix = (all: readonly ArrayLike<number>[]): Tensor =>
    tensor2d(
      all.flatMap((row) => Array.from(row)),
      shape,
      'int32',
    );
  return {
    input: matrix(rows.map(({ input }) => input)),
    output: matrix(rows.map(({ output }) => output)),
    identifiers: tensor3d(
      labelled.flatMap(({ identifiers }) => Array.from(identifiers)),
      [...shape, maxDepth],
    ),
    level: matrix(labelled.map(({ level }) => level)),
    position: matrix(labelled.map(({ position }) => position)),
    levelTarget: matrix(labelled.map(({ level }) => positionTargets(level))),
    positionTarget: matrix(labelled.map(({ position }) => positionTargets(position))),
    paths: rows.map(({ paths }) => paths),
  };
}

function labels(paths: readonly (readonly number[])[], maxDepth: number): Omit<PositionForest, 'paths'> {
  const identifiers = new Int8Array(paths.length * maxDepth);
  for (const [i, path] of paths.entries()) identifiers.set(path.slice(0, maxDepth), i * maxDepth);
  return {
    identifiers,
    level: Int32Array.from(paths, (path) => Math.min(path.length, maxDepth) - 1),
    position: Int32Array.from(paths, (path) => path[Math.max(0, Math.min(path.length, maxDepth) - 2)]),
  };
}

function checkTokens(owner: string, tokens: readonly string[]): void {
  if (Array.isArray(tokens) && tokens.every((token) => typeof token === 'string')) return;
  throw new ConfigError(
    `${owner}the formula is ${quote(tokens)}; it must be a list of tokens, as ['x', '^', '{', '2', '}'].`,
  );
}

/** One path a token. No recursion, so that no depth is too deep. */
function nestedPaths(tokens: readonly string[], owner = 'positionForest: '): number[][] {
  const fail = (index: number, problem: string): never => {
    throw new FormatError(`${owner}token ${index} is ${quote(tokens[index] ?? 'the end')}; ${problem}.`);
  };
  const closing = matchingBraces(tokens, fail);
  const paths: number[][] = new Array(tokens.length);
  const pending: { from: number; to: number; around: readonly number[] }[] = [];
  const enter = (from: number, to: number, around: readonly number[]): void => {
    pending.push({ from, to, around });
  };
  enter(0, tokens.length, []);
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { from, to, around } = next;
    const main = (...places: number[]): void => {
      for (const place of places) paths[place] = [...around, MAIN];
    };
    /** Takes `{ X }` at `open`, with X under `label`; returns the place after it. */
    const group = (open: number, label: number, command: number): number => {
      if (open >= to || tokens[open] !== '{') fail(open, `${tokens[command]} (token ${command}) needs { … } here`);
      main(open, closing[open]);
      enter(open + 1, closing[open], [...around, label]);
      return closing[open] + 1;
    };
    for (let i = from; i < to; ) {
      main(i);
      switch (tokens[i]) {
        case '^':
          i = group(i + 1, LEFT, i);
          break;
        case '_':
          i = group(i + 1, RIGHT, i);
          break;
        case '\\frac':
          i = group(group(i + 1, LEFT, i), RIGHT, i);
          break;
        case '\\sqrt': {
          let open = i + 1;
          if (open < to && tokens[open] === '[') {
            const close = matchingBracket(tokens, closing, open, to);
            if (close === undefined) return fail(open, `\\sqrt (token ${i}) has no ] to close it`);
            main(open, close);
            enter(open + 1, close, [...around, LEFT]);
            open = close + 1;
          }
          i = group(open, RIGHT, i);
          break;
        }
        default:
          i++;
      }
    }
  }
  return paths;
}

/** For each `{` the place of its `}`. */
function matchingBraces(tokens: readonly string[], fail: (index: number, problem: string) => never): Int32Array {
  const closing = new Int32Array(tokens.length);
  const open: number[] = [];
  for (const [i, token] of tokens.entries()) {
    if (token === '{') open.push(i);
    if (token === '}') closing[open.pop() ?? fail(i, 'there is no { before it to close')] = i;
  }
  const unclosed = open.at(-1);
  if (unclosed !== undefined) fail(unclosed, 'there is no } to close it');
  return closing;
}

/** The `]` of the `[` at `open`, over brackets and braces in between. */
function matchingBracket(tokens: readonly string[], closing: Int32Array, open: number, to: number): number | undefined {
  let depth = 0;
  for (let i = open; i < to; i++) {
    if (tokens[i] === '[') depth++;
    if (tokens[i] === ']' && --depth === 0) return i;
    if (tokens[i] === '{') i = closing[i];
  }
  return undefined;
}
