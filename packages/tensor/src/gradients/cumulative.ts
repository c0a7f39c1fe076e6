import {
  add,
  type CumsumAttrs,
  cumprod,
  cumsum,
  type GradConfig,
  mul,
  pad,
  reshape,
  reverse,
  slice,
  type Tensor,
  transpose,
  util,
} from '@tensorflow/tfjs-core';
import { alongLastAxis } from '../ops/axis.ts';

/** tfjs transposes the result once more for an axis that is not the last. */
const cumsumGradient: GradConfig = {
  kernelName: 'Cumsum',
  gradFunc: (dy, _, attrs) => {
    const { axis, exclusive, reverse } = attrs as unknown as CumsumAttrs;
    return { x: () => cumsum(dy as Tensor, axis, exclusive, !reverse) };
  },
};

/** tfjs has none. */
const cumprodGradient: GradConfig = {
  kernelName: 'Cumprod',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { axis, exclusive, reverse: backwards } = attrs as unknown as CumsumAttrs;
    const turn = (t: Tensor): Tensor => (backwards ? reverse(t, 1) : t);
    return {
      x: () =>
        alongLastAxis(axis ?? 0, [x, dy as Tensor], ([x, dy]) => {
          const rows = turn(reshape(x, [-1, x.shape[x.rank - 1]]));
          const dRows = turn(reshape(dy, rows.shape));
          const dx = exclusive ? ahead(pullBack(behind(rows, 1), dRows), 1) : pullBack(rows, dRows);
          return reshape(turn(dx), x.shape);
        }),
    };
  },
};

/**
 * The gradient of cumulative products along rows, without divisions (so zeros are fine): of the scan that multiplies
 * neighbours at distances 1, 2, 4 …, stage by stage backwards.
 */
function pullBack(x: Tensor, dy: Tensor): Tensor {
  const stages = [{ value: x, distance: 1 }];
  for (let distance = 1; 2 * distance < x.size / x.shape[0]; distance *= 2) {
    const { value } = stages[stages.length - 1];
    stages.push({ value: mul(value, behind(value, distance)), distance: 2 * distance });
  }
  return stages.reduceRight(
    (g, { value, distance }) => add(mul(g, behind(value, distance)), ahead(mul(g, value), distance)),
    dy,
  );
}

/** Row entries `distance` before; ones where there are none. */
function behind(x: Tensor, distance: number): Tensor {
  const [rows, columns] = x.shape;
  const shift = Math.min(distance, columns);
  const before: [number, number][] = [
    [0, 0],
    [shift, 0],
  ];
  return pad(slice(x, [0, 0], [rows, columns - shift]), before, 1);
}

/** Row entries `distance` after; zeros where there are none. */
function ahead(x: Tensor, distance: number): Tensor {
  const [rows, columns] = x.shape;
  const shift = Math.min(distance, columns);
  const after: [number, number][] = [
    [0, 0],
    [0, shift],
  ];
  return pad(slice(x, [0, shift], [rows, columns - shift]), after);
}

/** tfjs's calls methods that exist only when its chained operations are loaded. */
const prodGradient: GradConfig = {
  kernelName: 'Prod',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => ({
    x: () => {
      const axes = util.parseAxisParam((attrs as { axis?: number | number[] }).axis as number, x.shape);
      const kept = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
      const order = [...kept, ...axes];
      const ordered = transpose(x, order);
      const rows = reshape(ordered, [util.sizeFromShape(kept.map((i) => x.shape[i])), -1]);
      const others = mul(cumprod(rows, 1, true), cumprod(rows, 1, true, true));
      const dx = mul(others, reshape(dy as Tensor, [-1, 1]));
      return transpose(
        reshape(dx, ordered.shape),
        x.shape.map((_, i) => order.indexOf(i)),
      );
    },
  }),
};

export const cumulative: GradConfig[] = [cumsumGradient, cumprodGradient, prodGradient];
