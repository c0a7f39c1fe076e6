import {
  add,
  argMax,
  concat,
  fill,
  gather,
  mul,
  range,
  reshape,
  scalar,
  type Tensor,
  tensor2d,
} from '@tensorflow/tfjs-core';

/** One axis along which a window slides. */
export interface SlidingAxis {
  readonly pixels: number;
  readonly windows: number;
  readonly stride: number;
  /** Taps of the window, `dilation` pixels apart. */
  readonly size: number;
  readonly dilation: number;
  /** Pixels of padding before the first. */
  readonly padding: number;
}

/** `windows x taps`: which pixel of the image, counted over all axes, each tap of each window sees; -1 for padding. */
export function pixelsSeen(axes: readonly SlidingAxis[]): number[][] {
  return axes.reduce<number[][]>(
    (seen, { pixels, windows, stride, size, dilation, padding }) =>
      seen.flatMap((taps) =>
        Array.from({ length: windows }, (_, i) =>
          taps.flatMap((outer) =>
            Array.from({ length: size }, (_, k) => {
              const pixel = i * stride - padding + k * dilation;
              return outer < 0 || pixel < 0 || pixel >= pixels ? -1 : outer * pixels + pixel;
            }),
          ),
        ),
      ),
    [[0]],
  );
}

/**
 * Where the maximum of each window lies, the first of equal ones.
 * @param x `[batch, ...pixels, channels]`.
 * @param offsets `[taps, channels]`, added to what the taps see.
 * @returns for each window and channel, in order, the flat index into `x` and the flat index into `offsets`.
 */
export function maxima(
  x: Tensor,
  axes: readonly SlidingAxis[],
  offsets?: Tensor,
): { inImage: Tensor; inWindow: Tensor } {
  const channels = x.shape[x.rank - 1];
  const rows = x.size / channels;
  const perImage = rows / x.shape[0];
  const seen = pixelsSeen(axes);
  const [windows, taps] = [x.shape[0] * seen.length, seen[0].length];
  const picks = new Int32Array(windows * taps);
  for (let i = 0, batch = 0; batch < x.shape[0]; batch++) {
    for (const pixel of seen.flat()) picks[i++] = pixel < 0 ? rows : batch * perImage + pixel;
  }
  const ids = tensor2d(picks, [windows, taps], 'int32') as Tensor & { dtype: 'int32' };
  const padded = concat([reshape(x, [rows, channels]), fill([1, channels], Number.NEGATIVE_INFINITY)]);
  const values = gather(padded, ids);
  const tap = argMax(offsets ? add(values, offsets) : values, 1);
  const slots = add(tap, reshape(range(0, windows * taps, taps, 'int32'), [windows, 1]));
  const row = gather(reshape(ids, [-1]), slots as Tensor & { dtype: 'int32' });
  const flat = (index: Tensor): Tensor =>
    reshape(add(mul(index, scalar(channels, 'int32')), range(0, channels, 1, 'int32')), [-1]);
  return { inImage: flat(row), inWindow: flat(tap) };
}
