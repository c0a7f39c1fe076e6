import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util, slice_util, util } from '@tensorflow/tfjs-core';
import type { Emitter, NativeDType, Plan, Value } from '../graph.ts';
import { isNative } from '../graph.ts';
import type { Inputs } from '../kernel.ts';
import { axisOf, flat, sameShape, sizeOf, whole } from '../kernel.ts';

/**
 * Calls that run as well in JavaScript when they stand alone, and so have no native kernel, as nodes of a traced graph.
 */

type Plans = Record<string, (inputs: Inputs, attrs: Record<string, unknown>) => Plan | undefined>;
type Emit = (g: Emitter, x: Value) => Value;
type EmitPair = (g: Emitter, a: Value, b: Value) => Value;

const CODES: Record<NativeDType, number> = { float32: 1, int32: 6, bool: 9 };

const cast = (g: Emitter, x: Value, dtype: NativeDType): Value => g.op('Cast', [x], { to: CODES[dtype] });

const unary =
  (emit: Emit, dtypes: readonly string[] = ['float32']) =>
  (inputs: Inputs): Plan | undefined => {
    const x = inputs.x!;
    return dtypes.includes(x.dtype) ? elementwise(x, x.dtype as NativeDType, emit) : undefined;
  };

function elementwise(x: TensorInfo, dtype: NativeDType, emit: Emit): Plan {
  const operand = flat(x);
  return {
    key: '',
    inputs: [operand],
    outputs: [{ shape: x.shape, view: operand.shape, dtype }],
    elementwise: true,
    emit: (g, [value]) => emit(g, value!),
  };
}

const binary =
  (emitters: Partial<Record<NativeDType, EmitPair>>, out?: 'int32') =>
  ({ a, b }: Inputs): Plan | undefined => {
    const emit = emitters[a!.dtype as NativeDType];
    if (!emit || a!.dtype !== b!.dtype) return undefined;
    return {
      key: '',
      inputs: [whole(a!), whole(b!)],
      outputs: [
        {
          shape: backend_util.assertAndGetBroadcastShape(a!.shape, b!.shape),
          dtype: out ?? (a!.dtype as NativeDType),
        },
      ],
      emit: (g, [x, y]) => emit(g, x!, y!),
    };
  };

/** `x` as it is, under another shape. */
function same(x: TensorInfo, shape: readonly number[] = x.shape): Plan {
  return {
    key: '',
    inputs: [{ tensor: x, shape }],
    outputs: [{ shape, dtype: x.dtype as NativeDType }],
    emit: (_g, [value]) => value!,
  };
}

/** `exp(x) - 1`, exact where x is near 0 as well. */
const expm1: Emit = (g, x) => {
  const half = g.op('Tanh', [g.op('Mul', [x, g.constant('float32', 0.5)])]);
  return g.op('Mul', [half, g.op('Add', [g.op('Exp', [x]), g.constant('float32', 1)])]);
};

/** `log(1 + x)`, exact where x is near 0 as well: the rounding of 1 + x is divided out. */
const log1p: Emit = (g, x) => {
  const one = g.constant('float32', 1);
  const sum = g.op('Add', [x, one]);
  const rounded = g.op('Sub', [sum, one]);
  const corrected = g.op('Mul', [g.op('Log', [sum]), g.op('Div', [x, rounded])]);
  const lost = g.op('Equal', [rounded, g.constant('float32', 0)]);
  const huge = g.op('Greater', [x, g.constant('float32', 1e30)]);
  return g.op('Where', [lost, x, g.op('Where', [huge, g.op('Log', [x]), corrected])]);
};

/** The quotient rounded down; ONNX rounds the one of integers towards 0. */
const floorDiv: EmitPair = (g, a, b) => {
  const quotient = g.op('Div', [a, b]);
  const zero = g.constant('int32', 0);
  const inexact = g.op('Not', [g.op('Equal', [g.op('Mul', [quotient, b]), a])]);
  const negative = g.op('Xor', [g.op('Less', [a, zero]), g.op('Less', [b, zero])]);
  return g.op('Sub', [quotient, cast(g, g.op('And', [inexact, negative]), 'int32')]);
};

/** The remainder, with the sign of the divisor. */
const floatMod: EmitPair = (g, a, b) => {
  const zero = g.constant('float32', 0);
  const remainder = g.op('Mod', [a, b], { fmod: 1 });
  const other = g.op('Xor', [g.op('Less', [a, zero]), g.op('Less', [b, zero])]);
  return g.op('Where', [other, g.op('Mod', [g.op('Add', [remainder, b]), b], { fmod: 1 }), remainder]);
};

/** Bools are padded as int32. */
function padBools({ x }: Inputs, { paddings, constantValue }: Record<string, unknown>): Plan | undefined {
  if (x!.dtype !== 'bool') return undefined;
  const pads = paddings as [number, number][];
  return {
    key: '',
    inputs: [whole(x!)],
    params: [[...pads.map((p) => p[0]), ...pads.map((p) => p[1])]],
    outputs: [{ shape: x!.shape.map((size, i) => size + pads[i]![0] + pads[i]![1]), dtype: 'bool' }],
    emit: (g, [value], [amounts]) =>
      cast(g, g.op('Pad', [cast(g, value!, 'int32'), amounts!, g.constant('int32', constantValue ? 1 : 0)]), 'bool'),
  };
}

/** `condition ? t : e` of bools. */
function selectBools({ condition, t, e }: Inputs): Plan | undefined {
  if (t!.dtype !== 'bool' || e!.dtype !== 'bool' || !sameShape(condition!.shape, t!.shape)) return undefined;
  return {
    key: '',
    inputs: [flat(condition!), flat(t!), flat(e!)],
    outputs: [{ shape: t!.shape, view: [sizeOf(t!.shape)], dtype: 'bool' }],
    emit: (g, [c, x, y]) => g.op('Or', [g.op('And', [c!, x!]), g.op('And', [g.op('Not', [c!]), y!])]),
  };
}

/** `condition ? t : e` where the condition has an entry for each row of the others. */
function selectRows({ condition, t, e }: Inputs): Plan | undefined {
  const rows = condition!.shape[0];
  if (condition!.shape.length !== 1 || rows !== t!.shape[0] || t!.dtype !== e!.dtype || t!.dtype === 'bool')
    return undefined;
  const view = [rows, sizeOf(t!.shape.slice(1))];
  return {
    key: '',
    inputs: [
      { tensor: condition!, shape: [rows, 1] },
      { tensor: t!, shape: view },
      { tensor: e!, shape: view },
    ],
    outputs: [{ shape: t!.shape, view, dtype: t!.dtype as NativeDType }],
    emit: (g, values) => g.op('Where', values),
  };
}

/** `y[b, o, i] = x[b, o, indices[b, i]]`: indices of each batch into its own slices. */
function gatherInBatches({ x, indices }: Inputs, { axis, batchDims }: Record<string, unknown>): Plan | undefined {
  if (x!.dtype === 'bool' || indices!.dtype !== 'int32') return undefined;
  const info = backend_util.segment_util.collectGatherOpShapeInfo(
    x as Parameters<typeof backend_util.segment_util.collectGatherOpShapeInfo>[0],
    indices as Parameters<typeof backend_util.segment_util.collectGatherOpShapeInfo>[1],
    axisOf(axis as number, x!.shape),
    (batchDims as number | undefined) ?? 0,
  );
  const { batchSize, outerSize, dimSize, sliceSize, outputShape } = info;
  const count = sizeOf(indices!.shape) / batchSize;
  const swap = { perm: [0, 2, 1, 3] };
  return {
    key: '',
    inputs: [
      { tensor: x!, shape: [batchSize, outerSize, dimSize, sliceSize] },
      { tensor: indices!, shape: [batchSize, count, 1] },
    ],
    outputs: [{ shape: outputShape, view: [batchSize, outerSize, count, sliceSize], dtype: x!.dtype as NativeDType }],
    emit(g, [data, at]) {
      const places = g.op('Cast', [at!], { to: 7 });
      const rows = g.op('GatherND', [g.op('Transpose', [data!], swap), places], { batch_dims: 1 });
      return g.op('Transpose', [rows], swap);
    },
  };
}

/** A reduction over no axis. */
function reduceNothing({ x }: Inputs, { axis, reductionIndices }: Record<string, unknown>): Plan | undefined {
  const axes = util.parseAxisParam((reductionIndices ?? axis) as number[], x!.shape);
  return axes.length === 0 && x!.dtype !== 'bool' ? same(x!) : undefined;
}

const plans: Plans = {
  Cast({ x }, { dtype }) {
    if (!isNative(dtype as NativeDType)) return undefined;
    const to = dtype as NativeDType;
    return to === x!.dtype ? same(x!) : elementwise(x!, to, (g, value) => cast(g, value, to));
  },
  Concat(inputs, { axis }) {
    const tensors = Object.values(inputs);
    const { dtype, shape } = tensors[0]!;
    if (!tensors.every((t) => t.dtype === dtype)) return undefined;
    const along = axisOf(axis as number, shape);
    return {
      key: '',
      inputs: tensors.map(whole),
      outputs: [
        {
          shape: backend_util.computeOutShape(
            tensors.map((t) => t.shape),
            along,
          ),
          dtype: dtype as NativeDType,
        },
      ],
      emit: (g, values) => g.op('Concat', values, { axis: along }),
    };
  },
  Pack({ 0: x }, { axis }) {
    const shape = [...x!.shape];
    shape.splice((axis as number) < 0 ? (axis as number) + shape.length + 1 : (axis as number), 0, 1);
    return same(x!, shape);
  },
  StridedSlice({ x }, a) {
    const list = (name: string): number[] => a[name] as number[];
    const mask = (name: string): number => a[name] as number;
    const info = slice_util.sliceInfo(
      x!.shape,
      list('begin'),
      list('end'),
      list('strides'),
      mask('beginMask'),
      mask('endMask'),
      mask('ellipsisMask'),
      mask('newAxisMask'),
      mask('shrinkAxisMask'),
    );
    return info.isIdentity ? same(x!, info.finalShape) : undefined;
  },
  Reverse: ({ x }) => same(x!),
  Tile: ({ x }) => same(x!),
  PadV2: (inputs, attrs) => (inputs.x!.shape.length === 0 ? same(inputs.x!) : padBools(inputs, attrs)),
  Select: (inputs) => selectBools(inputs) ?? selectRows(inputs),
  GatherV2: gatherInBatches,
  Sum: reduceNothing,
  Mean: reduceNothing,
  Max: reduceNothing,
  Min: reduceNothing,
  Cumsum: ({ x }) => (x!.shape.length === 0 && x!.dtype !== 'bool' ? same(x!) : undefined),
  Expm1: unary(expm1),
  Log1p: unary(log1p),
  Tan: unary((g, x) => g.op('Tan', [x])),
  FloorDiv: binary(
    { float32: (g, a, b) => cast(g, g.op('Floor', [g.op('Div', [a, b])]), 'int32'), int32: floorDiv },
    'int32',
  ),
  Mod: binary({ float32: floatMod, int32: (g, a, b) => g.op('Mod', [a, b]) }),
  Pow: binary({ int32: (g, a, b) => g.op('Pow', [a, b]) }),
  LogicalXor: binary({ bool: (g, a, b) => g.op('Xor', [a, b]) }),
};

/** How a traced graph computes a call that has no native kernel, if it can. */
export function tracedPlan(name: string, inputs: Inputs, attrs: Record<string, unknown>): Plan | undefined {
  return plans[name]?.(inputs, attrs);
}
