import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util, util } from '@tensorflow/tfjs-core';
import type { Emitter, NativeDType, Operand, Plan, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { around, axisOf, kernel, sizeOf, whole } from '../kernel.ts';

/** Functions that fold axes away (sums, extremes), or run along one (softmax, cumulative sum, top k). */

/** Elements from which these are worth a native run. */
const THRESHOLD = 2048;

/** The cpu kernels run down whole rows quickly, and first transpose what is not a row, at some 30 ns an element. */
const ROWS_THRESHOLD = 8192;
const TRANSPOSED_WEIGHT = 32;

interface Reduction {
  /** The tensor with neighbouring kept and neighbouring reduced axes folded into one each. */
  operand: Operand;
  axes: number[];
  shape: number[];
  /** The output's shape within the graph, which keeps no reduced axis. */
  view: number[];
}

/** `undefined` for an axis given twice, which the cpu kernels refuse. */
function reduction(x: TensorInfo, axis: number | number[] | undefined, keepDims: boolean): Reduction | undefined {
  const given = util.parseAxisParam(axis as number | number[], x.shape);
  const reduced = new Set(given);
  if (reduced.size < given.length) return undefined;
  const folded: number[] = [];
  const axes: number[] = [];
  let last: boolean | undefined;
  x.shape.forEach((size, i) => {
    const now = reduced.has(i);
    if (now === last) folded[folded.length - 1]! *= size;
    else {
      if (now) axes.push(folded.length);
      folded.push(size);
    }
    last = now;
  });
  return {
    operand: { tensor: x, shape: folded },
    axes,
    shape: keepDims ? x.shape.map((size, i) => (reduced.has(i) ? 1 : size)) : x.shape.filter((_, i) => !reduced.has(i)),
    view: folded.filter((_, i) => !axes.includes(i)),
  };
}

type Emit = (g: Emitter, x: Value, axes: Value) => Value;

const node =
  (op: string): Emit =>
  (g, x, axes) =>
    g.op(op, [x, axes], { keepdims: 0 });

/** The emitters by input type; a missing one leaves the type to the cpu kernel. */
function reduce(name: string, emitters: Partial<Record<NativeDType, { emit: Emit; out: NativeDType }>>): Kernel {
  return kernel<{ x: TensorInfo }, { axis?: number | number[]; reductionIndices?: number[]; keepDims: boolean }>({
    name,
    threshold: ROWS_THRESHOLD,
    size({ x }, { axis, reductionIndices }) {
      const axes = util.parseAxisParam((reductionIndices ?? axis) as number[], x.shape);
      const rows = backend_util.axesAreInnerMostDims(axes, x.shape.length);
      return sizeOf(x.shape) * (rows ? 1 : TRANSPOSED_WEIGHT);
    },
    plan({ x }, { axis, reductionIndices, keepDims }) {
      const emitter = emitters[x.dtype as NativeDType];
      if (!emitter) return undefined;
      const reduced = reduction(x, reductionIndices ?? axis, keepDims);
      if (!reduced || reduced.axes.length === 0) return undefined;
      const { operand, axes, shape, view } = reduced;
      return {
        key: `${axes}/${operand.shape.length}`,
        inputs: [operand],
        outputs: [{ shape, view, dtype: emitter.out }],
        emit: (g, [value]) => emitter.emit(g, value!, g.constant('int64', axes)),
      };
    },
  });
}

/** bool as bytes, folded, and back. */
const truth =
  (op: string): Emit =>
  (g, x, axes) =>
    g.op('Cast', [g.op(op, [g.op('Cast', [x], { to: 6 }), axes], { keepdims: 0 })], { to: 9 });

const cast =
  (to: number, then: Emit): Emit =>
  (g, x, axes) =>
    then(g, g.op('Cast', [x], { to }), axes);

/** The runtime's extremes may skip NaN, which TensorFlow.js keeps: a sum of clipped values is NaN just where one is. */
const extreme =
  (op: string): Emit =>
  (g, x, axes) => {
    const bounded = g.op('Clip', [x, g.constant('float32', -1), g.constant('float32', 1)]);
    const sum = g.op('ReduceSum', [bounded, axes], { keepdims: 0 });
    return g.op('Where', [g.op('IsNaN', [sum]), sum, node(op)(g, x, axes)]);
  };

const float = (op: string) => ({ emit: node(op), out: 'float32' }) as const;
const int = (op: string) => ({ emit: node(op), out: 'int32' }) as const;

const reductions: readonly Kernel[] = [
  reduce('Sum', {
    float32: float('ReduceSum'),
    int32: int('ReduceSum'),
    bool: { emit: cast(6, node('ReduceSum')), out: 'int32' },
  }),
  reduce('Mean', {
    float32: float('ReduceMean'),
    int32: { emit: cast(1, node('ReduceMean')), out: 'float32' },
    bool: { emit: cast(1, node('ReduceMean')), out: 'float32' },
  }),
  reduce('Max', { float32: { emit: extreme('ReduceMax'), out: 'float32' }, int32: int('ReduceMax') }),
  reduce('Min', { float32: { emit: extreme('ReduceMin'), out: 'float32' }, int32: int('ReduceMin') }),
  reduce('Prod', { float32: float('ReduceProd') }),
  reduce('Any', { bool: { emit: truth('ReduceMax'), out: 'bool' } }),
  reduce('All', { bool: { emit: truth('ReduceMin'), out: 'bool' } }),
];

/** Where along `axis` the extreme stands; of equal ones the first. */
function argExtreme(name: string, op: string): Kernel {
  return kernel<{ x: TensorInfo }, { axis: number }>({
    name,
    threshold: THRESHOLD,
    plan({ x }, { axis }) {
      if (x.dtype !== 'float32' && x.dtype !== 'int32') return undefined;
      const [outer, length, inner] = around(x.shape, axisOf(axis, x.shape));
      return {
        key: '',
        inputs: [{ tensor: x, shape: [outer, length, inner] }],
        outputs: [
          { shape: x.shape.filter((_, i) => i !== axisOf(axis, x.shape)), view: [outer, inner], dtype: 'int32' },
        ],
        emit: (g, [value]) => g.op('Cast', [g.op(op, [value!], { axis: 1, keepdims: 0 })], { to: 6 }),
      };
    },
  });
}

/** Along the last axis. */
function softmaxLike(name: string, op: string, attribute: 'dim' | 'axis'): Kernel {
  return kernel<{ logits: TensorInfo }, { dim?: number; axis?: number }>({
    name,
    threshold: 128,
    plan({ logits }, attrs): Plan | undefined {
      const rank = logits.shape.length;
      const axis = attrs[attribute] ?? -1;
      if (logits.dtype !== 'float32' || rank === 0 || (axis !== -1 && axis !== rank - 1)) return undefined;
      const view = [sizeOf(logits.shape.slice(0, -1)), logits.shape[rank - 1]!];
      return {
        key: '',
        inputs: [{ tensor: logits, shape: view }],
        outputs: [{ shape: logits.shape, view, dtype: 'float32' }],
        work: 4 * sizeOf(view),
        emit: (g, [value]) => g.op(op, [value!], { axis: -1 }),
      };
    },
  });
}

const cumsum = kernel<{ x: TensorInfo }, { axis: number; exclusive: boolean; reverse: boolean }>({
  name: 'Cumsum',
  threshold: THRESHOLD,
  plan({ x }, { axis, exclusive, reverse }) {
    if (x.dtype === 'bool' || x.shape.length === 0) return undefined;
    const view = around(x.shape, axisOf(axis, x.shape));
    const attributes = { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 };
    return {
      key: `${attributes.exclusive}${attributes.reverse}`,
      inputs: [{ tensor: x, shape: view }],
      outputs: [{ shape: x.shape, view, dtype: backend_util.upcastType(x.dtype, 'int32') as NativeDType }],
      emit: (g, [value]) => g.op('CumSum', [value!, g.constant('int64', 1)], attributes),
    };
  },
});

const topK = kernel<{ x: TensorInfo }, { k: number; sorted: boolean }>({
  name: 'TopK',
  threshold: 512,
  plan({ x }, { k }) {
    const last = x.shape[x.shape.length - 1]!;
    if (x.dtype === 'bool' || k === 0 || k > last) return undefined;
    const shape = [...x.shape.slice(0, -1), k];
    return {
      key: '',
      inputs: [whole(x)],
      params: [[k]],
      outputs: [
        { shape, dtype: x.dtype as NativeDType },
        { shape, dtype: 'int32' },
      ],
      emit(g, [value], [count]) {
        const [values, indices] = g.ops('TopK', [value!, count!], 2, { axis: -1, largest: 1, sorted: 1 });
        return [values!, g.op('Cast', [indices!], { to: 6 })];
      },
    };
  },
});

export const reductionKernels: readonly Kernel[] = [
  ...reductions,
  argExtreme('ArgMax', 'ArgMax'),
  argExtreme('ArgMin', 'ArgMin'),
  softmaxLike('Softmax', 'Softmax', 'dim'),
  softmaxLike('LogSoftmax', 'LogSoftmax', 'axis'),
  cumsum,
  topK,
];
