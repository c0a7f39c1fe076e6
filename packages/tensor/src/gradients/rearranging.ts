import {
  add,
  type DepthToSpaceAttrs,
  type GradConfig,
  type MirrorPadAttrs,
  pad,
  reshape,
  reverse,
  slice,
  sum,
  type Tensor,
  type TileAttrs,
  transpose,
} from '@tensorflow/tfjs-core';

/** tfjs's stops at rank 4 and adds up slices one by one. */
const tileGradient: GradConfig = {
  kernelName: 'Tile',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { reps } = attrs as unknown as TileAttrs;
    // Only repeated axes are split in two (repeats, size), since some backends stop at rank 6.
    const split = x.shape.flatMap((size, i) => (reps[i] === 1 ? [size] : [reps[i], size]));
    const repeats = x.shape.flatMap((_, i) =>
      reps[i] === 1 ? [] : [i + reps.slice(0, i).filter((count) => count !== 1).length],
    );
    return {
      x: () => (repeats.length === 0 ? reshape(dy as Tensor, x.shape) : sum(reshape(dy as Tensor, split), repeats)),
    };
  },
};

/** tfjs's drops what flows into the mirrored borders. */
const mirrorPadGradient: GradConfig = {
  kernelName: 'MirrorPad',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { paddings, mode } = attrs as unknown as MirrorPadAttrs;
    const edge = mode === 'reflect' ? 1 : 0;
    return {
      x: () =>
        paddings.reduce<Tensor>((folded, [before, after], axis) => {
          const size = x.shape[axis];
          const part = (from: number, count: number): Tensor => {
            const begin = folded.shape.map((_, i) => (i === axis ? from : 0));
            const sizes = folded.shape.map((full, i) => (i === axis ? count : full));
            return slice(folded, begin, sizes);
          };
          const place = (border: Tensor, from: number): Tensor => {
            const zeros = folded.shape.map((_, i): [number, number] =>
              i === axis ? [from, size - from - border.shape[axis]] : [0, 0],
            );
            return pad(reverse(border, axis), zeros);
          };
          let middle = part(before, size);
          if (before > 0) middle = add(middle, place(part(0, before), edge));
          if (after > 0) middle = add(middle, place(part(before + size, after), size - edge - after));
          return middle;
        }, dy as Tensor),
    };
  },
};

/** tfjs has none. */
const depthToSpaceGradient: GradConfig = {
  kernelName: 'DepthToSpace',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attrs) => {
    const { blockSize, dataFormat } = attrs as unknown as DepthToSpaceAttrs;
    return {
      x: () => {
        if (dataFormat === 'NCHW') {
          const [batch, , height, width] = x.shape;
          const blocks = reshape(dy as Tensor, [batch, -1, height, blockSize, width, blockSize]);
          return reshape(transpose(blocks, [0, 3, 5, 1, 2, 4]), x.shape);
        }
        const [batch, height, width] = x.shape;
        const blocks = reshape(dy as Tensor, [batch, height, blockSize, width, blockSize, -1]);
        return reshape(transpose(blocks, [0, 1, 3, 2, 4, 5]), x.shape);
      },
    };
  },
};

export const rearranging: GradConfig[] = [tileGradient, mirrorPadGradient, depthToSpaceGradient];
