import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util, slice_util, util } from '@tensorflow/tfjs-core';
import type { NativeDType, Plan } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { around, axisOf, kernel, sizeOf, whole } from '../kernel.ts';

/** Kernels that move elements without computing: transposing, cutting, joining, repeating. */

/** Elements from which these are worth a native run: the cpu kernels take 50 to 200 ns an element. */
const THRESHOLD = 128;

/** The size of what shares its input's memory: worth planning at any size. */
const FREE: number = Number.POSITIVE_INFINITY;

const native = (tensor: TensorInfo): NativeDType => tensor.dtype as NativeDType;

const transpose = kernel<{ x: TensorInfo }, { perm: number[] }>({
  name: 'Transpose',
  threshold: 512,
  size: ({ x }, { perm }) => (keepsOrder(x.shape, perm) ? FREE : sizeOf(x.shape)),
  plan: ({ x }, { perm }) => ({
    key: String(perm),
    inputs: [whole(x)],
    outputs: [{ shape: perm.map((axis) => x.shape[axis]!), dtype: native(x) }],
    offsets: keepsOrder(x.shape, perm) ? [0] : undefined,
    emit: (g, [value]) => g.op('Transpose', [value!], { perm }),
  }),
});

/** Whether only axes of size 1 change places, so that the elements stay where they are. */
function keepsOrder(shape: readonly number[], perm: readonly number[]): boolean {
  const long = perm.filter((axis) => shape[axis]! > 1);
  return long.every((axis, i) => i === 0 || axis > long[i - 1]!);
}

/** `x[begin : begin + size : stride]` on every axis, as `view`, handed on as `shape`. */
function strided(
  x: TensorInfo,
  begin: readonly number[],
  end: readonly number[],
  strides: readonly number[],
  view: readonly number[],
  shape: readonly number[],
): Plan {
  return {
    key: '',
    inputs: [whole(x)],
    params: [begin, end, begin.map((_, axis) => axis), strides],
    outputs: [{ shape, view, dtype: native(x) }],
    emit: (g, [value], params) => g.op('Slice', [value!, ...params]),
  };
}

function slicePlan(x: TensorInfo, begin: number[], size: number[], shape: readonly number[] = size): Plan {
  const end = begin.map((start, axis) => start + size[axis]!);
  const ones = begin.map(() => 1);
  const plan = strided(x, begin, end, ones, size, shape);
  if (slice_util.isSliceContinous(x.shape, begin, size)) {
    let offset = 0;
    begin.forEach((start, axis) => {
      offset += start * sizeOf(x.shape.slice(axis + 1));
    });
    plan.offsets = [offset];
  }
  return plan;
}

const slice = kernel<{ x: TensorInfo }, { begin: number | number[]; size: number | number[] }>({
  name: 'Slice',
  threshold: 0,
  plan({ x }, attrs) {
    if (x.shape.length === 0) return undefined;
    const [begin, size] = slice_util.parseSliceParams(
      x as Parameters<typeof slice_util.parseSliceParams>[0],
      attrs.begin,
      attrs.size,
    ) as [number[], number[]];
    slice_util.assertParamsValid(x as Parameters<typeof slice_util.assertParamsValid>[0], begin, size);
    return slicePlan(x, begin, size);
  },
});

interface StridedSliceAttrs {
  begin: number[];
  end: number[];
  strides: number[];
  beginMask: number;
  endMask: number;
  ellipsisMask: number;
  newAxisMask: number;
  shrinkAxisMask: number;
}

const stridedSlice = kernel<{ x: TensorInfo }, StridedSliceAttrs>({
  name: 'StridedSlice',
  threshold: THRESHOLD,
  plan({ x }, a) {
    const info = slice_util.sliceInfo(
      x.shape,
      a.begin,
      a.end,
      a.strides,
      a.beginMask,
      a.endMask,
      a.ellipsisMask,
      a.newAxisMask,
      a.shrinkAxisMask,
    );
    if (info.isIdentity || sizeOf(info.finalShape) === 0) return undefined;
    if (info.sliceDim0 || info.isSimpleSlice) {
      return slicePlan(x, info.begin, slice_util.computeOutShape(info.begin, info.end, info.strides), info.finalShape);
    }
    // Counting down past the first element: ONNX would take an end of -1 for the last one.
    const end = info.end.map((stop, axis) => (stop < 0 ? -1 - x.shape[axis]! : stop));
    return strided(x, info.begin, end, info.strides, info.finalShapeSparse, info.finalShape);
  },
});

const reverse = kernel<{ x: TensorInfo }, { dims?: number | number[] }>({
  name: 'Reverse',
  threshold: THRESHOLD,
  plan({ x }, { dims }) {
    // Without `dims` every axis is reversed.
    const axes = new Set(util.parseAxisParam(dims as number | number[], x.shape));
    if (x.shape.length === 0 || axes.size === 0) return undefined;
    const begin = x.shape.map((size, axis) => (axes.has(axis) ? size - 1 : 0));
    const end = x.shape.map((size, axis) => (axes.has(axis) ? -1 - size : size));
    const strides = x.shape.map((_, axis) => (axes.has(axis) ? -1 : 1));
    return strided(x, begin, end, strides, x.shape, x.shape);
  },
});

/** Cut `x` along `axis` into pieces of `sizes`, each handed on as its entry of `shapes`. */
function splitPlan(x: TensorInfo, axis: number, sizes: readonly number[], shapes: readonly number[][]): Plan {
  const [outer, length, inner] = around(x.shape, axis);
  let start = 0;
  const starts = sizes.map((size) => {
    start += size;
    return (start - size) * inner;
  });
  return {
    key: String(sizes.length),
    inputs: [{ tensor: x, shape: [outer, length, inner] }],
    params: [sizes],
    outputs: sizes.map((size, i) => ({ shape: shapes[i]!, view: [outer, size, inner], dtype: native(x) })),
    offsets: outer === 1 ? starts : undefined,
    emit: (g, [value], [lengths]) => g.ops('Split', [value!, lengths!], sizes.length, { axis: 1 }),
  };
}

type SplitAttrs = { numOrSizeSplits: number[] | number; axis: number };

function splitSizes(x: TensorInfo, { numOrSizeSplits, axis }: SplitAttrs): number[] {
  const tensor = x as Parameters<typeof backend_util.prepareSplitSize>[0];
  return backend_util.prepareSplitSize(tensor, numOrSizeSplits, axisOf(axis, x.shape));
}

/** `x`'s shape with another size along `axis`. */
const resized = (x: TensorInfo, axis: number, size: number): number[] => x.shape.map((n, i) => (i === axis ? size : n));

const splitV = kernel<{ x: TensorInfo }, SplitAttrs>({
  name: 'SplitV',
  threshold: 1024,
  size: ({ x }, { axis }) => (around(x.shape, axisOf(axis, x.shape))[0] === 1 ? FREE : sizeOf(x.shape)),
  plan({ x }, attrs) {
    const axis = axisOf(attrs.axis, x.shape);
    const sizes = splitSizes(x, attrs);
    if (sizes.includes(0)) return undefined;
    const shapes = sizes.map((size) => resized(x, axis, size));
    return splitPlan(x, axis, sizes, shapes);
  },
  small(backend, { x }, attrs) {
    const axis = axisOf(attrs.axis, x.shape);
    const [outer, length, inner] = around(x.shape, axis);
    const from = backend.values(x);
    let start = 0;
    return splitSizes(x, attrs).map((size) => {
      const { tensor, values } = backend.allocate(resized(x, axis, size), native(x));
      const width = size * inner;
      for (let o = 0, to = 0; o < outer; o++) {
        const at = (o * length + start) * inner;
        for (let k = 0; k < width; k++) values[to++] = from[at + k]!;
      }
      start += size;
      return tensor;
    });
  },
});

const unpack = kernel<{ value: TensorInfo }, { axis: number }>({
  name: 'Unpack',
  threshold: 0,
  plan({ value: x }, attrs) {
    const axis = attrs.axis < 0 ? attrs.axis + x.shape.length : attrs.axis;
    const count = x.shape[axis]!;
    const shape = x.shape.filter((_, i) => i !== axis);
    return splitPlan(
      x,
      axis,
      new Array<number>(count).fill(1),
      Array.from({ length: count }, () => shape),
    );
  },
});

/** Join tensors, each seen as `[outer, its size, inner]`. */
function joinPlan(
  tensors: readonly TensorInfo[],
  outer: number,
  sizes: readonly number[],
  inner: number,
  shape: readonly number[],
): Plan {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  return {
    key: String(tensors.length),
    inputs: tensors.map((tensor, i) => ({ tensor, shape: [outer, sizes[i]!, inner] })),
    outputs: [{ shape, view: [outer, total, inner], dtype: native(tensors[0]!) }],
    emit: (g, values) => g.op('Concat', values, { axis: 1 }),
  };
}

const concat = kernel<TensorInfo[], { axis: number }>({
  name: 'Concat',
  threshold: 1024,
  plan(inputs, attrs) {
    const tensors = Object.values(inputs);
    const first = tensors[0]!;
    if (tensors.length < 2 || !tensors.every((t) => t.dtype === first.dtype)) return undefined;
    const axis = axisOf(attrs.axis, first.shape);
    backend_util.assertParamsConsistent(
      tensors.map((t) => t.shape),
      axis,
    );
    const [outer, , inner] = around(first.shape, axis);
    const sizes = tensors.map((t) => t.shape[axis]!);
    return joinPlan(
      tensors,
      outer,
      sizes,
      inner,
      backend_util.computeOutShape(
        tensors.map((t) => t.shape),
        axis,
      ),
    );
  },
});

const pack = kernel<TensorInfo[], { axis: number }>({
  name: 'Pack',
  threshold: 1024,
  plan(inputs, attrs) {
    const tensors = Object.values(inputs);
    const { shape, dtype } = tensors[0]!;
    if (tensors.length < 2 || !tensors.every((t) => t.dtype === dtype && String(t.shape) === String(shape)))
      return undefined;
    const axis = attrs.axis < 0 ? attrs.axis + shape.length + 1 : attrs.axis;
    if (axis < 0) return undefined;
    const outer = sizeOf(shape.slice(0, axis));
    const packed = [...shape.slice(0, axis), tensors.length, ...shape.slice(axis)];
    return joinPlan(
      tensors,
      outer,
      tensors.map(() => 1),
      sizeOf(shape.slice(axis)),
      packed,
    );
  },
});

const pad = kernel<{ x: TensorInfo }, { paddings: [number, number][]; constantValue: number }>({
  name: 'PadV2',
  threshold: THRESHOLD,
  plan({ x }, { paddings, constantValue }) {
    if (x.shape.length === 0 || x.dtype === 'bool') return undefined;
    return {
      key: '',
      inputs: [whole(x)],
      params: [[...paddings.map((p) => p[0]), ...paddings.map((p) => p[1])], { type: native(x), value: constantValue }],
      outputs: [{ shape: x.shape.map((size, i) => size + paddings[i]![0] + paddings[i]![1]), dtype: native(x) }],
      emit: (g, [value], params) => g.op('Pad', [value!, ...params]),
    };
  },
});

const tile = kernel<{ x: TensorInfo }, { reps: number[] }>({
  name: 'Tile',
  threshold: THRESHOLD,
  size: ({ x }, { reps }) => sizeOf(x.shape) * sizeOf(reps),
  plan({ x }, { reps }) {
    if (x.shape.length === 0) return undefined;
    return {
      key: '',
      inputs: [whole(x)],
      params: [reps],
      outputs: [{ shape: x.shape.map((size, i) => size * reps[i]!), dtype: native(x) }],
      emit: (g, [value], params) => g.op('Tile', [value!, ...params]),
    };
  },
});

/** float32 to int32 wraps as JavaScript does, which ONNX leaves undefined: that one stays with the cpu kernel. */
const cast = kernel<{ x: TensorInfo }, { dtype: string }>({
  name: 'Cast',
  threshold: 2048,
  plan({ x }, { dtype }) {
    const to = { float32: 1, bool: 9, int32: x.dtype === 'bool' ? 6 : 0 }[dtype];
    if (!to || dtype === x.dtype) return undefined;
    const view = [sizeOf(x.shape)];
    return {
      key: dtype,
      inputs: [{ tensor: x, shape: view }],
      outputs: [{ shape: x.shape, view, dtype: dtype as NativeDType }],
      emit: (g, [value]) => g.op('Cast', [value!], { to }),
    };
  },
  small(backend, { x }, { dtype }) {
    if (dtype === x.dtype || (dtype !== 'float32' && dtype !== 'int32')) return undefined;
    const { tensor, values } = backend.allocate(x.shape, dtype);
    values.set(backend.values(x));
    return tensor;
  },
});

export const shapeKernels: readonly Kernel[] = [
  transpose,
  slice,
  stridedSlice,
  reverse,
  splitV,
  unpack,
  concat,
  pack,
  pad,
  tile,
  cast,
];
