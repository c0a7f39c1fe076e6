import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util } from '@tensorflow/tfjs-core';
import type { OrtBackend } from '../backend.ts';
import type { Emitter, NativeDType, Operand, Plan, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { ELEMENTWISE_THRESHOLD, flat, kernel, sameShape, sizeOf, whole } from '../kernel.ts';

/** Elementwise functions of two tensors with broadcasting, `y = f(a, b)`, and others of several tensors. */

type Pair = { a: TensorInfo; b: TensorInfo };
type Emit = (g: Emitter, a: Value, b: Value) => Value;

interface Options {
  dtypes?: readonly NativeDType[];
  out?: NativeDType;
  /** The function in JavaScript, for small tensors that broadcast: the cpu kernel takes 100 ns an element there. */
  scalar?: (a: number, b: number) => number;
}

function broadcastPlan(a: TensorInfo, b: TensorInfo, dtype: NativeDType, emit: Emit): Plan {
  const large = sizeOf(a.shape) >= sizeOf(b.shape) && a.shape.length >= b.shape.length ? a : b;
  if (sameShape(a.shape, b.shape) || isScalarFor(large, large === a ? b : a)) {
    const operand = (tensor: TensorInfo): Operand =>
      sameShape(tensor.shape, large.shape) ? flat(tensor) : { tensor, shape: [] };
    return {
      key: '',
      inputs: [operand(a), operand(b)],
      outputs: [{ shape: large.shape, view: operand(large).shape, dtype }],
      elementwise: true,
      emit: (g, [x, y]) => emit(g, x!, y!),
    };
  }
  return {
    key: '',
    inputs: [whole(a), whole(b)],
    outputs: [{ shape: backend_util.assertAndGetBroadcastShape(a.shape, b.shape), dtype }],
    emit: (g, [x, y]) => emit(g, x!, y!),
  };
}

/** Whether `small` is one number, which broadcasts without giving the other a new axis. */
function isScalarFor(large: TensorInfo, small: TensorInfo): boolean {
  return sizeOf(small.shape) === 1 && small.shape.length <= large.shape.length;
}

/** Strides of `shape` within an output of `rank` axes, zero where it is repeated. */
function repeatedStrides(shape: readonly number[], rank: number): number[] {
  const strides = new Array<number>(rank).fill(0);
  let stride = 1;
  for (let i = shape.length - 1, j = rank - 1; i >= 0; i--, j--) {
    strides[j] = shape[i] === 1 ? 0 : stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** `f` over broadcast `a` and `b`, row by row of the last axis. */
function broadcastInJs(
  backend: OrtBackend,
  { a, b }: Pair,
  dtype: NativeDType,
  f: (a: number, b: number) => number,
): TensorInfo | undefined {
  if (sameShape(a.shape, b.shape)) return undefined;
  const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const x = backend.values(a);
  const y = backend.values(b);
  const { tensor, values } = backend.allocate(shape, dtype);
  const rank = shape.length;
  const columns = rank === 0 ? 1 : shape[rank - 1]!;
  const aStrides = repeatedStrides(a.shape, rank);
  const bStrides = repeatedStrides(b.shape, rank);
  const aStep = rank === 0 ? 0 : aStrides[rank - 1]!;
  const bStep = rank === 0 ? 0 : bStrides[rank - 1]!;
  const index = new Array<number>(rank).fill(0);
  let i = 0;
  let j = 0;
  for (let start = 0; start < values.length; start += columns) {
    for (let c = 0; c < columns; c++) values[start + c] = f(x[i + c * aStep]!, y[j + c * bStep]!);
    for (let axis = rank - 2; axis >= 0; axis--) {
      i += aStrides[axis]!;
      j += bStrides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      i -= aStrides[axis]! * shape[axis]!;
      j -= bStrides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return tensor;
}

function binary(name: string, emit: Emit, { dtypes = ['float32'], out, scalar }: Options = {}): Kernel {
  const handles = ({ a, b }: Pair): boolean => a.dtype === b.dtype && dtypes.includes(a.dtype as NativeDType);
  return kernel<Pair>({
    name,
    threshold: ELEMENTWISE_THRESHOLD,
    size: ({ a, b }) => Math.max(sizeOf(a.shape), sizeOf(b.shape)),
    plan: (pair) =>
      handles(pair) ? broadcastPlan(pair.a, pair.b, out ?? (pair.a.dtype as NativeDType), emit) : undefined,
    small: (backend, pair) =>
      scalar && handles(pair) ? broadcastInJs(backend, pair, out ?? (pair.a.dtype as NativeDType), scalar) : undefined,
  });
}

const NUMBERS = ['float32', 'int32'] as const;
const ALL = ['float32', 'int32', 'bool'] as const;

const direct = (name: string, op: string, options: Options): Kernel =>
  binary(name, (g, a, b) => g.op(op, [a, b]), options);

const arithmetic: readonly Kernel[] = [
  direct('Add', 'Add', { dtypes: NUMBERS, scalar: (a, b) => a + b }),
  direct('Sub', 'Sub', { dtypes: NUMBERS, scalar: (a, b) => a - b }),
  direct('Multiply', 'Mul', { dtypes: NUMBERS, scalar: (a, b) => a * b }),
  direct('RealDiv', 'Div', { scalar: (a, b) => a / b }),
  direct('Maximum', 'Max', { dtypes: NUMBERS, scalar: Math.max }),
  direct('Minimum', 'Min', { dtypes: NUMBERS, scalar: Math.min }),
  direct('Pow', 'Pow', {}),
  binary(
    'SquaredDifference',
    (g, a, b) => {
      const difference = g.op('Sub', [a, b]);
      return g.op('Mul', [difference, difference]);
    },
    { dtypes: NUMBERS, scalar: (a, b) => (a - b) * (a - b) },
  ),
];

const comparisons: readonly Kernel[] = [
  direct('Equal', 'Equal', { dtypes: ALL, out: 'bool', scalar: (a, b) => (a === b ? 1 : 0) }),
  binary('NotEqual', (g, a, b) => g.op('Not', [g.op('Equal', [a, b])]), {
    dtypes: ALL,
    out: 'bool',
    scalar: (a, b) => (a !== b ? 1 : 0),
  }),
  direct('Greater', 'Greater', { dtypes: NUMBERS, out: 'bool', scalar: (a, b) => (a > b ? 1 : 0) }),
  direct('GreaterEqual', 'GreaterOrEqual', { dtypes: NUMBERS, out: 'bool', scalar: (a, b) => (a >= b ? 1 : 0) }),
  direct('Less', 'Less', { dtypes: NUMBERS, out: 'bool', scalar: (a, b) => (a < b ? 1 : 0) }),
  direct('LessEqual', 'LessOrEqual', { dtypes: NUMBERS, out: 'bool', scalar: (a, b) => (a <= b ? 1 : 0) }),
  direct('LogicalAnd', 'And', { dtypes: ['bool'] }),
  direct('LogicalOr', 'Or', { dtypes: ['bool'] }),
];

/** `x < 0 ? alpha * x : x`. */
export const emitPrelu: Emit = (g, x, alpha) =>
  g.op('Where', [g.op('Less', [x, g.constant('float32', 0)]), g.op('Mul', [alpha, x]), x]);

const prelu = kernel<{ x: TensorInfo; alpha: TensorInfo }>({
  name: 'Prelu',
  threshold: ELEMENTWISE_THRESHOLD,
  plan: ({ x, alpha }) =>
    x.dtype === 'float32' && alpha.dtype === 'float32' ? broadcastPlan(x, alpha, 'float32', emitPrelu) : undefined,
});

/** `dx = y >= 0 ? dy : dy * (y + 1)`, where `y = elu(x)`. */
const eluGrad = kernel<{ dy: TensorInfo; y: TensorInfo }>({
  name: 'EluGrad',
  threshold: ELEMENTWISE_THRESHOLD,
  plan({ dy, y }) {
    if (dy.dtype !== 'float32' || y.dtype !== 'float32' || !sameShape(dy.shape, y.shape)) return undefined;
    return broadcastPlan(dy, y, 'float32', (g, grad, out) => {
      const negative = g.op('Mul', [grad, g.op('Add', [out, g.constant('float32', 1)])]);
      return g.op('Where', [g.op('GreaterOrEqual', [out, g.constant('float32', 0)]), grad, negative]);
    });
  },
});

const addN = kernel<TensorInfo[]>({
  name: 'AddN',
  threshold: ELEMENTWISE_THRESHOLD,
  plan(inputs) {
    const tensors = Object.values(inputs);
    const { dtype, shape } = tensors[0]!;
    if (dtype === 'bool' || !tensors.every((t) => t.dtype === dtype && sameShape(t.shape, shape))) return undefined;
    const operands = tensors.map(flat);
    return {
      key: String(operands.length),
      inputs: operands,
      outputs: [{ shape, view: operands[0]!.shape, dtype: dtype as NativeDType }],
      elementwise: true,
      emit: (g, values) => values.slice(1).reduce((sum, value) => g.op('Add', [sum, value]), values[0]!),
    };
  },
});

/** `condition ? t : e`, all of one shape (TensorFlow.js broadcasts before). */
const select = kernel<{ condition: TensorInfo; t: TensorInfo; e: TensorInfo }>({
  name: 'Select',
  threshold: ELEMENTWISE_THRESHOLD,
  plan({ condition, t, e }) {
    if (t.dtype !== e.dtype || t.dtype === 'bool' || condition.dtype !== 'bool') return undefined;
    if (!sameShape(condition.shape, t.shape) || !sameShape(t.shape, e.shape)) return undefined;
    const operands = [condition, t, e].map(flat);
    return {
      key: '',
      inputs: operands,
      outputs: [{ shape: t.shape, view: operands[0]!.shape, dtype: t.dtype as NativeDType }],
      elementwise: true,
      emit: (g, values) => g.op('Where', values),
    };
  },
});

export const binaryKernels: readonly Kernel[] = [...arithmetic, ...comparisons, prelu, eluGrad, addN, select];
