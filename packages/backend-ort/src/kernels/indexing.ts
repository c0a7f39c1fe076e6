import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util, util } from '@tensorflow/tfjs-core';
import type { OrtBackend } from '../backend.ts';
import type { Emitter, NativeDType, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { around, axisOf, IN_JAVASCRIPT, kernel, sizeOf, whole } from '../kernel.ts';

/** Kernels that read or write where integer tensors say. */

const isData = (tensor: TensorInfo): boolean => tensor.dtype === 'float32' || tensor.dtype === 'int32';

const int64 = (g: Emitter, x: Value): Value => g.op('Cast', [x], { to: 7 });

type GatherInputs = { x: TensorInfo; indices: TensorInfo };
type GatherAttrs = { axis: number; batchDims?: number };

function gatherShape({ x, indices }: GatherInputs, { axis, batchDims = 0 }: GatherAttrs) {
  return backend_util.segment_util.collectGatherOpShapeInfo(
    x as Parameters<typeof backend_util.segment_util.collectGatherOpShapeInfo>[0],
    indices as Parameters<typeof backend_util.segment_util.collectGatherOpShapeInfo>[1],
    axisOf(axis, x.shape),
    batchDims,
  );
}

/** `y[…, i, …] = x[…, indices[i], …]` along `axis`. */
const gatherV2 = kernel<GatherInputs, GatherAttrs>({
  name: 'GatherV2',
  threshold: 4096,
  size: ({ x, indices }, { axis }) => (sizeOf(x.shape) / x.shape[axisOf(axis, x.shape)]!) * sizeOf(indices.shape),
  check(backend, { x, indices }, { axis }) {
    const last = x.shape[axisOf(axis, x.shape)]! - 1;
    for (const index of backend.values(indices)) {
      util.assert(index <= last && index >= 0, () => `GatherV2: the index value ${index} is not in [0, ${last}]`);
    }
  },
  plan(inputs, attrs) {
    const { x, indices } = inputs;
    if (!isData(x) || indices.dtype !== 'int32' || attrs.batchDims) return undefined;
    const [outer, length, inner] = around(x.shape, axisOf(attrs.axis, x.shape));
    const count = sizeOf(indices.shape);
    const dtype = x.dtype as NativeDType;
    return {
      key: '',
      inputs: [
        { tensor: x, shape: [outer, length, inner] },
        { tensor: indices, shape: [count] },
      ],
      outputs: [{ shape: gatherShape(inputs, attrs).outputShape, view: [outer, count, inner], dtype }],
      emit: (g, values) => g.op('Gather', values, { axis: 1 }),
    };
  },
  small(backend, inputs, attrs) {
    const { x, indices } = inputs;
    if (!isData(x) || indices.dtype !== 'int32') return undefined;
    const { batchSize, outerSize, dimSize, sliceSize, outputShape } = gatherShape(inputs, attrs);
    const from = backend.values(x);
    const at = backend.values(indices);
    const perBatch = at.length / batchSize;
    const { tensor, values } = backend.allocate(outputShape, x.dtype as NativeDType);
    let to = 0;
    for (let b = 0; b < batchSize; b++) {
      for (let o = 0; o < outerSize; o++) {
        const base = (b * outerSize + o) * dimSize;
        for (let i = 0; i < perBatch; i++) {
          const start = (base + at[b * perBatch + i]!) * sliceSize;
          for (let k = 0; k < sliceSize; k++) values[to++] = from[start + k]!;
        }
      }
    }
    return tensor;
  },
});

/** Where slice `i` of an indexing with rows of `rank` numbers begins, in slices. */
function flatIndex(at: ArrayLike<number>, i: number, strides: ArrayLike<number>, rank: number): number {
  let index = 0;
  for (let j = 0; j < rank; j++) index += at[i * rank + j]! * strides[j]!;
  return index;
}

function outOfRange(at: ArrayLike<number>, i: number, rank: number, shape: readonly number[]): Error {
  const index = Array.from({ length: rank }, (_, j) => at[i * rank + j]);
  return new Error(`Invalid indices: ${index} does not index into ${shape}`);
}

/** `y[i] = params[indices[i, 0], indices[i, 1], …]`. */
const gatherNd = kernel<{ params: TensorInfo; indices: TensorInfo }>({
  name: 'GatherNd',
  threshold: IN_JAVASCRIPT,
  plan({ params, indices }) {
    if (!isData(params) || indices.dtype !== 'int32') return undefined;
    const rank = indices.shape[indices.shape.length - 1]!;
    return {
      key: '',
      inputs: [whole(params), whole(indices)],
      outputs: [
        { shape: [...indices.shape.slice(0, -1), ...params.shape.slice(rank)], dtype: params.dtype as NativeDType },
      ],
      emit: (g, [x, at]) => g.op('GatherND', [x!, int64(g, at!)]),
    };
  },
  small(backend, { params, indices }) {
    if (!isData(params) || indices.dtype !== 'int32') return undefined;
    const rank = indices.shape[indices.shape.length - 1]!;
    const [shape, count, sliceSize, strides] = backend_util.prepareAndValidate(params, indices);
    const from = backend.values(params);
    const at = backend.values(indices);
    const slices = from.length / sliceSize;
    const { tensor, values } = backend.allocate(shape, params.dtype as NativeDType);
    for (let i = 0; i < count; i++) {
      const start = flatIndex(at, i, strides, rank);
      if (start < 0 || start >= slices) {
        backend.disposeData(tensor.dataId);
        throw outOfRange(at, i, rank, params.shape);
      }
      for (let k = 0; k < sliceSize; k++) values[i * sliceSize + k] = from[start * sliceSize + k]!;
    }
    return tensor;
  },
});

/** `y[indices[i]] += updates[i]`, from zeros of `shape`. */
const scatterNd = kernel<{ indices: TensorInfo; updates: TensorInfo }, { shape: number[] }>({
  name: 'ScatterNd',
  threshold: IN_JAVASCRIPT,
  plan({ indices, updates }, { shape }) {
    if (!isData(updates) || indices.dtype !== 'int32' || indices.shape.length === 0) return undefined;
    const dtype = updates.dtype as 'float32' | 'int32';
    return {
      key: '',
      // A vector of indices is a list of indices into the first axis.
      inputs: [
        indices.shape.length === 1 ? { tensor: indices, shape: [indices.shape[0]!, 1] } : whole(indices),
        whole(updates),
      ],
      params: [shape],
      outputs: [{ shape, dtype }],
      emit: (g, [at, values], [size]) =>
        g.op('ScatterND', [g.op('Expand', [g.constant(dtype, 0), size!]), int64(g, at!), values!], {
          reduction: 'add',
        }),
    };
  },
  small(backend, { indices, updates }, { shape }) {
    if (!isData(updates) || indices.dtype !== 'int32') return undefined;
    const { sliceRank, numUpdates, sliceSize, strides, outputSize } = backend_util.calculateShapes(
      updates,
      indices,
      shape,
    );
    const from = backend.values(updates);
    const at = backend.values(indices);
    const { tensor, values } = backend.allocate(shape, updates.dtype as NativeDType);
    values.fill(0);
    for (let i = 0; i < numUpdates; i++) {
      const start = flatIndex(at, i, strides, sliceRank) * sliceSize;
      if (start < 0 || start >= outputSize) {
        backend.disposeData(tensor.dataId);
        throw outOfRange(at, i, sliceRank, shape);
      }
      for (let k = 0; k < sliceSize; k++) values[start + k]! += from[i * sliceSize + k]!;
    }
    return tensor;
  },
});

/** `y[s] = sum of x[i] over segmentIds[i] = s`; ids outside `[0, numSegments)` are dropped. The gradient of gather. */
const unsortedSegmentSum = kernel<{ x: TensorInfo; segmentIds: TensorInfo }, { numSegments: number }>({
  name: 'UnsortedSegmentSum',
  threshold: IN_JAVASCRIPT,
  plan({ x, segmentIds }, { numSegments }) {
    if (x.dtype !== 'float32' || segmentIds.dtype !== 'int32' || segmentIds.shape.length !== 1) return undefined;
    const rows = segmentIds.shape[0]!;
    const inner = sizeOf(x.shape.slice(1));
    return {
      key: '',
      inputs: [
        { tensor: x, shape: [rows, inner] },
        { tensor: segmentIds, shape: [rows, 1] },
      ],
      // One row more, which collects the dropped ids.
      params: [[numSegments + 1, inner], [numSegments]],
      outputs: [{ shape: [numSegments, ...x.shape.slice(1)], view: [numSegments, inner], dtype: 'float32' }],
      emit(g, [values, ids], [size, count]) {
        const at = int64(g, ids!);
        const outside = g.op('Or', [g.op('Less', [at, g.constant('int64', 0)]), g.op('GreaterOrEqual', [at, count!])]);
        const zeros = g.op('Expand', [g.constant('float32', 0), size!]);
        const sums = g.op('ScatterND', [zeros, g.op('Where', [outside, count!, at]), values!], { reduction: 'add' });
        return g.op('Slice', [sums, g.constant('int64', [0]), count!, g.constant('int64', [0])]);
      },
    };
  },
  small(backend, { x, segmentIds }, { numSegments }) {
    if (x.dtype !== 'float32' || segmentIds.dtype !== 'int32' || segmentIds.shape.length !== 1) return undefined;
    const from = backend.values(x);
    const ids = backend.values(segmentIds);
    const inner = sizeOf(x.shape.slice(1));
    const { tensor, values } = backend.allocate([numSegments, ...x.shape.slice(1)], 'float32');
    values.fill(0);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (id < 0 || id >= numSegments) continue;
      for (let k = 0; k < inner; k++) values[id * inner + k]! += from[i * inner + k]!;
    }
    return tensor;
  },
});

interface OneHotAttrs {
  dtype: string;
  depth: number;
  onValue: number;
  offValue: number;
}

/** `onValue` where the last, new axis equals the index, else `offValue`. */
const oneHot = kernel<{ indices: TensorInfo }, OneHotAttrs>({
  name: 'OneHot',
  threshold: IN_JAVASCRIPT,
  plan({ indices }, { dtype, depth, onValue, offValue }) {
    if (indices.dtype !== 'int32' || (dtype !== 'float32' && dtype !== 'int32')) return undefined;
    const count = sizeOf(indices.shape);
    return {
      key: `${dtype}:${depth}`,
      inputs: [{ tensor: indices, shape: [count, 1] }],
      params: [
        { type: dtype, value: onValue },
        { type: dtype, value: offValue },
      ],
      outputs: [{ shape: [...indices.shape, depth], view: [count, depth], dtype }],
      emit(g, [at], [on, off]) {
        const columns = g.op('Range', [g.constant('int32', 0), g.constant('int32', depth), g.constant('int32', 1)]);
        return g.op('Where', [g.op('Equal', [at!, columns]), on!, off!]);
      },
    };
  },
  small(backend, { indices }, { dtype, depth, onValue, offValue }) {
    if (indices.dtype !== 'int32' || (dtype !== 'float32' && dtype !== 'int32')) return undefined;
    const at = backend.values(indices);
    const { tensor, values } = backend.allocate([...indices.shape, depth], dtype);
    values.fill(offValue);
    for (let i = 0; i < at.length; i++) {
      if (at[i]! >= 0 && at[i]! < depth) values[i * depth + at[i]!] = onValue;
    }
    return tensor;
  },
});

/** A constant tensor. */
function filled(backend: OrtBackend, shape: readonly number[], dtype: NativeDType, value: number): TensorInfo {
  const { tensor, values } = backend.allocate(shape, dtype);
  values.fill(value);
  return tensor;
}

function like(name: string, value: number): Kernel {
  return kernel<{ x: TensorInfo }>({
    name,
    threshold: IN_JAVASCRIPT,
    plan({ x }) {
      const dtype = x.dtype as NativeDType;
      return {
        key: dtype,
        inputs: [],
        params: [x.shape],
        outputs: [{ shape: x.shape, dtype }],
        emit: (g, _inputs, [shape]) => g.op('Expand', [g.constant(dtype, value), shape!]),
      };
    },
    small: (backend, { x }) => filled(backend, x.shape, x.dtype as NativeDType, value),
  });
}

const fill = kernel<object, { shape: number[]; value: number | string; dtype?: string }>({
  name: 'Fill',
  threshold: IN_JAVASCRIPT,
  plan(_inputs, { shape, value, dtype = 'float32' }) {
    if (typeof value !== 'number' || (dtype !== 'float32' && dtype !== 'int32')) return undefined;
    return {
      key: dtype,
      inputs: [],
      params: [shape, { type: dtype, value }],
      outputs: [{ shape, dtype }],
      emit: (g, _inputs, [size, scalar]) => g.op('Expand', [scalar!, size!]),
    };
  },
  small: (backend, _inputs, { shape, value, dtype = 'float32' }) =>
    typeof value === 'number' && (dtype === 'float32' || dtype === 'int32')
      ? filled(backend, shape, dtype, value)
      : undefined,
});

export const indexingKernels: readonly Kernel[] = [
  gatherV2,
  gatherNd,
  scatterNd,
  unsortedSegmentSum,
  oneHot,
  like('ZerosLike', 0),
  like('OnesLike', 1),
  fill,
];
