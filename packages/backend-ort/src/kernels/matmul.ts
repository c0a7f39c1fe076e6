import type { TensorInfo } from '@tensorflow/tfjs-core';
import { broadcast_util } from '@tensorflow/tfjs-core';
import type { Emitter, Operand, Plan, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { kernel, sizeOf, whole } from '../kernel.ts';
import { emitPrelu } from './binary.ts';
import { ACTIVATIONS } from './unary.ts';

/** Matrix products: `op(a) op(b)` over the last two axes, where `op` may transpose and the other axes broadcast. */

interface Attrs {
  transposeA: boolean;
  transposeB: boolean;
}

/** Multiplications from which a product is worth a native run. */
const THRESHOLD = 5000;

/** Multiplications in the time of one elementwise operation, which waits for memory. */
const PER_OPERATION = 8;

interface Product {
  a: Operand;
  b: Operand;
  shape: number[];
  /** The product as the graph computes it. */
  view: number[];
  work: number;
}

function product(a: TensorInfo, b: TensorInfo, { transposeA, transposeB }: Attrs): Product | undefined {
  const [rows, inner] = lastTwo(a.shape, transposeA);
  const [innerB, columns] = lastTwo(b.shape, transposeB);
  // The cpu kernel words these errors.
  if (inner !== innerB) return undefined;
  const outerA = a.shape.slice(0, -2);
  const outerB = b.shape.slice(0, -2);
  const outer = broadcast_util.assertAndGetBroadcastShape(outerA, outerB);
  const shape = [...outer, rows, columns];
  const work = sizeOf(outer) * rows * columns * inner;
  // One matrix for a whole batch: the batch is just more rows, which makes one large product of many small ones.
  if (!transposeA && sizeOf(outerB) === 1 && sizeOf(outerA) > 1) {
    const stacked = sizeOf(outerA) * rows;
    return {
      a: { tensor: a, shape: [stacked, inner] },
      b: { tensor: b, shape: b.shape.slice(-2) },
      shape,
      view: [stacked, columns],
      work,
    };
  }
  return { a: whole(a), b: whole(b), shape, view: shape, work };
}

function lastTwo(shape: readonly number[], transposed: boolean): [number, number] {
  const [m, n] = shape.slice(-2) as [number, number];
  return transposed ? [n, m] : [m, n];
}

/** Transposing is a node of its own: ONNX Runtime makes it part of the product where it can. */
function emitMatMul(g: Emitter, { a, b }: Product, x: Value, y: Value, { transposeA, transposeB }: Attrs): Value {
  const turned = (value: Value, { shape }: Operand, transpose: boolean): Value =>
    transpose ? emitMatrixTranspose(g, value, shape.length) : value;
  return g.op('MatMul', [turned(x, a, transposeA), turned(y, b, transposeB)]);
}

/** Exchanges the last two of `rank` axes. */
export function emitMatrixTranspose(g: Emitter, value: Value, rank: number): Value {
  const perm = Array.from({ length: rank }, (_, axis) => axis);
  return g.op('Transpose', [value], { perm: [...perm.slice(0, -2), rank - 1, rank - 2] });
}

const key = ({ a, b }: Product, { transposeA, transposeB }: Attrs): string =>
  `${transposeA ? `t${a.shape.length}` : 'n'}${transposeB ? `t${b.shape.length}` : 'n'}`;

function multiplications({ a, b }: { a: TensorInfo; b: TensorInfo }, attrs: Attrs): number {
  return product(a, b, attrs)?.work ?? 0;
}

const batchMatMul = kernel<{ a: TensorInfo; b: TensorInfo }, Attrs>({
  name: 'BatchMatMul',
  threshold: THRESHOLD,
  size: multiplications,
  plan({ a, b }, attrs): Plan | undefined {
    if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
    const p = product(a, b, attrs);
    return (
      p && {
        key: key(p, attrs),
        inputs: [p.a, p.b],
        outputs: [{ shape: p.shape, view: p.view, dtype: 'float32' }],
        work: p.work / PER_OPERATION,
        emit: (g, [x, y]) => emitMatMul(g, p, x!, y!, attrs),
      }
    );
  },
});

interface FusedInputs {
  a: TensorInfo;
  b: TensorInfo;
  bias?: TensorInfo;
  preluActivationWeights?: TensorInfo;
}

interface FusedAttrs extends Attrs {
  activation?: string;
  leakyreluAlpha?: number;
}

/** `activation(op(a) op(b) + bias)`. */
const fusedMatMul = kernel<FusedInputs, FusedAttrs>({
  name: '_FusedMatMul',
  threshold: THRESHOLD,
  size: multiplications,
  plan({ a, b, bias, preluActivationWeights }, attrs): Plan | undefined {
    const extras = [bias, preluActivationWeights].filter((t) => t != null);
    if (![a, b, ...extras].every((t) => t.dtype === 'float32')) return undefined;
    // Stacking a batch's rows needs the bias to be one row.
    if (extras.some((t) => sizeOf(t.shape.slice(0, -1)) !== 1)) return undefined;
    const p = product(a, b, attrs);
    if (!p) return undefined;
    const { activation = 'linear', leakyreluAlpha = 0.2 } = attrs;
    const row = (tensor: TensorInfo): Operand => ({ tensor, shape: [sizeOf(tensor.shape)] });
    return {
      key: `${key(p, attrs)}${bias ? 'b' : ''}:${activation}:${activation === 'leakyrelu' ? leakyreluAlpha : ''}`,
      inputs: [p.a, p.b, ...extras.map(row)],
      outputs: [{ shape: p.shape, view: p.view, dtype: 'float32' }],
      work: p.work / PER_OPERATION,
      emit(g, [x, y, ...rest]) {
        let out = emitMatMul(g, p, x!, y!, attrs);
        if (bias) out = g.op('Add', [out, rest[0]!]);
        return emitActivation(g, out, activation, rest[bias ? 1 : 0], leakyreluAlpha);
      },
    };
  },
});

/** The activation of a fused kernel, named as TensorFlow.js does. */
export function emitActivation(g: Emitter, x: Value, name: string, slope: Value | undefined, alpha: number): Value {
  if (name === 'prelu') return emitPrelu(g, x, slope!);
  if (name === 'leakyrelu') return emitPrelu(g, x, g.constant('float32', alpha));
  const emit = ACTIVATIONS[name];
  if (!emit) throw new Error(`activation is '${name}'; it may be ${Object.keys(ACTIVATIONS)}, prelu or leakyrelu`);
  return emit(g, x, []);
}

/** The size of each letter of an equation; `undefined` if it is malformed: the cpu kernel words those errors. */
function einsumSizes(tensors: readonly TensorInfo[], equation: string): Map<string, number> | undefined {
  if (!/^[a-z]*(,[a-z]*)?->[a-z]*$/.test(equation)) return undefined;
  const [terms, result] = equation.split('->') as [string, string];
  const operands = terms.split(',');
  if (operands.length !== tensors.length) return undefined;
  const sizes = new Map<string, number>();
  for (const [i, operand] of operands.entries()) {
    const { shape } = tensors[i]!;
    if (operand.length !== shape.length || new Set(operand).size !== operand.length) return undefined;
    for (const [axis, letter] of [...operand].entries()) {
      if ((sizes.get(letter) ?? shape[axis]) !== shape[axis]) return undefined;
      sizes.set(letter, shape[axis]!);
    }
  }
  return [...result].every((letter) => sizes.has(letter)) ? sizes : undefined;
}

/** A product written as an equation (`'bhqd,bhkd->bhqk'`). */
const einsum = kernel<TensorInfo[], { equation: string }>({
  name: 'Einsum',
  threshold: 64,
  plan(inputs, { equation }) {
    const tensors = Object.values(inputs);
    if (!tensors.every((t) => t.dtype === 'float32')) return undefined;
    const sizes = einsumSizes(tensors, equation);
    if (!sizes) return undefined;
    const result = equation.slice(equation.indexOf('>') + 1);
    return {
      key: equation,
      inputs: tensors.map(whole),
      outputs: [{ shape: [...result].map((letter) => sizes.get(letter)!), dtype: 'float32' }],
      work: sizeOf([...sizes.values()]) / PER_OPERATION,
      emit: (g, values) => g.op('Einsum', values, { equation }),
    };
  },
});

export const matmulKernels: readonly Kernel[] = [batchMatMul, fusedMatMul, einsum];
