import { mul, reshape, sum, type Tensor, tidy, transpose } from '@tensorflow/tfjs-core';
import { ConfigError, ShapeError } from '../errors.ts';
import { matMul } from './mat-mul.ts';

/** A tensor with a letter for each of its axes. */
interface Term {
  readonly labels: string;
  readonly tensor: Tensor;
}

/**
 * Sum of products over named axes, as `torch.einsum`: `einsum('bqd,bkd->bqk', q, k)`.
 *
 * An axis is a letter; `...` stands for any further axes, of the same sizes in every operand that has them. Letters that
 * are not after `->` are summed over; without `->` the result has the letters that occur once, in alphabetical order.
 * Operands are multiplied from left to right, each time as one batched matrix product. (tfjs's own takes two operands at
 * most and has no gradient.)
 * @throws ConfigError for an equation that cannot be read, and for one with a letter twice in an operand (a diagonal).
 * @throws ShapeError if an operand's axes do not fit.
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  const { inputs, output } = parse(equation, operands);
  return tidy(() => {
    const terms = inputs.map((labels, i) => ({ labels, tensor: operands[i] }));
    const neededAfter = (i: number): string => output + inputs.slice(i + 1).join('');
    const product = terms.reduce((left, right, i) => multiply(left, right, neededAfter(i)));
    const { labels, tensor } = sumOut(product, output);
    return reorder(tensor, labels, output);
  });
}

function multiply(left: Term, right: Term, needed: string): Term {
  const a = sumOut(left, needed + right.labels);
  const b = sumOut(right, needed + left.labels);
  const sizes = new Map(
    [...a.labels, ...b.labels].map((label, i) => [label, [...a.tensor.shape, ...b.tensor.shape][i]]),
  );
  const count = (labels: string): number => [...labels].reduce((size, label) => size * (sizes.get(label) ?? 1), 1);

  const shared = pick(a.labels, (label) => b.labels.includes(label));
  const batch = pick(shared, (label) => needed.includes(label));
  const inner = pick(shared, (label) => !needed.includes(label));
  const rows = pick(a.labels, (label) => !shared.includes(label));
  const columns = pick(b.labels, (label) => !shared.includes(label));

  const x = layOut(a, batch, rows, inner, count);
  const y = layOut(b, batch, inner, columns, count);
  // Without a sum a product of matrices with an inner size of 1 would be a slow way to multiply elements.
  const product =
    inner === ''
      ? mul(reshape(x.matrices, [-1, count(rows), 1]), reshape(y.matrices, [-1, 1, count(columns)]))
      : matMul(x.matrices, y.matrices, x.transposed, y.transposed);
  const labels = batch + rows + columns;
  return {
    labels,
    tensor: reshape(
      product,
      [...labels].map((label) => count(label)),
    ),
  };
}

/** The term as a batch of matrices `[batch, rows, columns]`, or transposed where that spares a copy. */
function layOut(
  { labels, tensor }: Term,
  batch: string,
  rows: string,
  columns: string,
  count: (labels: string) => number,
): { matrices: Tensor; transposed: boolean } {
  const transposed = labels !== batch + rows + columns && labels === batch + columns + rows;
  const [first, second] = transposed ? [columns, rows] : [rows, columns];
  const ordered = reorder(tensor, labels, batch + first + second);
  return { matrices: reshape(ordered, [count(batch), count(first), count(second)]), transposed };
}

function sumOut({ labels, tensor }: Term, needed: string): Term {
  const axes = [...labels].flatMap((label, axis) => (needed.includes(label) ? [] : [axis]));
  if (axes.length === 0) return { labels, tensor };
  return { labels: pick(labels, (label) => needed.includes(label)), tensor: sum(tensor, axes) };
}

function reorder(tensor: Tensor, from: string, to: string): Tensor {
  return from === to
    ? tensor
    : transpose(
        tensor,
        [...to].map((label) => from.indexOf(label)),
      );
}

function pick(labels: string, keep: (label: string) => boolean): string {
  return [...labels].filter(keep).join('');
}

function parse(equation: string, operands: readonly Tensor[]): { inputs: string[]; output: string } {
  const refuse = (why: string): ConfigError => new ConfigError(`einsum('${equation}'): ${why}.`);
  const [left, right, ...more] = equation.replace(/\s/g, '').split('->');
  const parts = left.split(',');
  const valid = (labels: string): boolean => /^[a-zA-Z]*(\.\.\.)?[a-zA-Z]*$/.test(labels);
  if (more.length > 0 || ![...parts, right ?? ''].every(valid)) {
    throw refuse("an equation is letters, '...' and commas, and at most one '->', as in 'bij,bjk->bik'");
  }
  if (parts.length !== operands.length) throw refuse(`${parts.length} operands in it, ${operands.length} given`);

  // The axes of '...' are named by digits, counted from the right.
  const digits = (axes: number): string => Array.from({ length: axes }, (_, i) => axes - 1 - i).join('');
  const sizes = new Map<string, number>();
  let widest = '';
  const inputs = parts.map((part, i) => {
    const { shape } = operands[i];
    const named = part.replace('...', '').length;
    const rest = part.includes('...') ? shape.length - named : 0;
    if (rest < 0 || named + rest !== shape.length || rest > 10) {
      throw new ShapeError(`einsum('${equation}'): operand ${i} is '${part}' but has shape [${shape}].`);
    }
    if (rest > widest.length) widest = digits(rest);
    const labels = part.replace('...', digits(rest));
    for (const [axis, label] of [...labels].entries()) {
      if (labels.indexOf(label) !== axis) throw refuse(`'${label}' is twice in '${part}'; diagonals are not supported`);
      const size = sizes.get(label) ?? shape[axis];
      if (size !== shape[axis]) {
        throw new ShapeError(
          `einsum('${equation}'): axis ${axis} of operand ${i} [${shape}] has size ${shape[axis]}, elsewhere ${size}.`,
        );
      }
      sizes.set(label, size);
    }
    return labels;
  });

  const all = inputs.join('');
  const once = [...sizes.keys()].filter((label) => /[a-zA-Z]/.test(label) && all.split(label).length === 2);
  const output = right === undefined ? widest + once.sort().join('') : right.replace('...', widest);
  for (const [i, label] of [...output].entries()) {
    if (!sizes.has(label)) throw refuse(`'${label}' of the result is in no operand`);
    if (output.indexOf(label) !== i) throw refuse(`'${label}' is twice in the result`);
  }
  return { inputs, output };
}
