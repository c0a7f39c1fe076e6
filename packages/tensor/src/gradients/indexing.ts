import {
  add,
  type GatherV2Attrs,
  type GradConfig,
  gatherND,
  range,
  reshape,
  type StridedSliceAttrs,
  scatterND,
  slice_util,
  type Tensor,
  tensor2d,
  transpose,
  util,
} from '@tensorflow/tfjs-core';
import { scatterRowsAdd } from '../ops/scatter-rows-add.ts';

/**
 * tfjs's calls methods that exist only when its chained operations are loaded (for `batchDims`), and sums with
 * UnsortedSegmentSum, which some backends lack and the CPU one runs once per row of the table.
 */
const gatherGradient: GradConfig = {
  kernelName: 'GatherV2',
  inputsToSave: ['x', 'indices'],
  gradFunc: (dy, [x, indices], attrs) => {
    const { axis, batchDims } = attrs as unknown as GatherV2Attrs;
    const along = util.parseAxisParam(axis, x.shape)[0];
    const size = x.shape[along];
    const [batch, outer, inner] = [
      x.shape.slice(0, batchDims),
      x.shape.slice(batchDims, along),
      x.shape.slice(along + 1),
    ].map(util.sizeFromShape);
    const picks = indices.size / batch;
    return {
      x: () => {
        // dy is [batch, outer, picks, inner]; the rows of all batch entries lie in one table of batch * size rows.
        const values =
          outer === 1 ? (dy as Tensor) : transpose(reshape(dy as Tensor, [batch, outer, picks, inner]), [0, 2, 1, 3]);
        const local = reshape(indices, [batch, picks]);
        const rows = batch === 1 ? local : add(local, reshape(range(0, batch * size, size, 'int32'), [batch, 1]));
        const table = scatterRowsAdd(
          reshape(values, [batch * picks, outer * inner]),
          reshape(rows, [-1]),
          batch * size,
        );
        return reshape(
          outer === 1 ? table : transpose(reshape(table, [batch, size, outer, inner]), [0, 2, 1, 3]),
          x.shape,
        );
      },
    };
  },
};

/** tfjs has none for these three. */
const gatherNdGradient: GradConfig = {
  kernelName: 'GatherNd',
  inputsToSave: ['params', 'indices'],
  gradFunc: (dy, [params, indices]) => ({ params: () => scatterND(indices, dy as Tensor, params.shape) }),
};

const scatterNdGradient: GradConfig = {
  kernelName: 'ScatterNd',
  inputsToSave: ['indices'],
  gradFunc: (dy, [indices]) => ({ updates: () => gatherND(dy as Tensor, indices) }),
};

const stridedSliceGradient: GradConfig = {
  kernelName: 'StridedSlice',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } =
      attrs as unknown as StridedSliceAttrs;
    const info = slice_util.sliceInfo(
      x.shape,
      begin,
      end,
      strides,
      beginMask,
      endMask,
      ellipsisMask,
      newAxisMask,
      shrinkAxisMask,
    );
    const step = util.computeStrides(x.shape).concat(1);
    const counts = info.begin.map((from, i) => Math.max(0, Math.ceil((info.end[i] - from) / info.strides[i])));
    const places = counts.reduce<number[]>(
      (flat, count, axis) =>
        flat.flatMap((base) =>
          Array.from({ length: count }, (_, i) => base + (info.begin[axis] + i * info.strides[axis]) * step[axis]),
        ),
      [0],
    );
    return {
      x: () => {
        const indices = tensor2d(Int32Array.from(places), [places.length, 1], 'int32');
        return reshape(scatterND(indices, reshape(dy as Tensor, [-1]), [x.size]), x.shape);
      },
    };
  },
};

export const indexing: GradConfig[] = [gatherGradient, gatherNdGradient, scatterNdGradient, stridedSliceGradient];
