import {
  type GradConfig,
  matMul,
  type ResizeBilinearAttrs,
  reshape,
  type Tensor,
  type Tensor2D,
  tensor2d,
  transpose,
} from '@tensorflow/tfjs-core';

/*
 * tfjs's gradients of resizing have none themselves, and the bilinear one swaps height and width and knows nothing of
 * half-pixel centers. Resizing is linear and separable, `y = R x C^T` with the matrices below, so the gradient is
 * `R^T dy C`.
 */

type Options = Pick<ResizeBilinearAttrs, 'alignCorners' | 'halfPixelCenters'>;

/** `[to, from]`: the share of each pixel along one axis of the image in each of the result. */
type Weights = (from: number, to: number, options: Options) => Tensor2D;

function ratio(from: number, to: number, alignCorners: boolean): number {
  return alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to;
}

const bilinear: Weights = (from, to, { alignCorners, halfPixelCenters }) => {
  const weights = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const center = ratio(from, to, alignCorners) * (halfPixelCenters ? i + 0.5 : i) - (halfPixelCenters ? 0.5 : 0);
    const below = Math.max(0, Math.floor(center));
    const above = Math.min(from - 1, Math.ceil(center));
    weights[i * from + below] += 1 - (center - below);
    weights[i * from + above] += center - below;
  }
  return tensor2d(weights, [to, from]);
};

const nearest: Weights = (from, to, { alignCorners, halfPixelCenters }) => {
  const weights = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const center = ratio(from, to, alignCorners) * (halfPixelCenters ? i + 0.5 : i);
    weights[i * from + Math.min(from - 1, alignCorners ? Math.round(center) : Math.floor(center))] = 1;
  }
  return tensor2d(weights, [to, from]);
};

function resizing(kernelName: string, weights: Weights): GradConfig {
  return {
    kernelName,
    inputsToSave: ['images'],
    gradFunc: (dy, [images], attrs) => {
      const options = attrs as unknown as ResizeBilinearAttrs;
      const [batch, height, width, channels] = images.shape;
      const [toHeight, toWidth] = options.size;
      return {
        images: () => {
          const rows = transpose(weights(height, toHeight, options));
          const columns = transpose(weights(width, toWidth, options));
          const tall = matMul(rows, reshape(dy as Tensor, [batch, toHeight, toWidth * channels]));
          const images = matMul(columns, reshape(tall, [batch * height, toWidth, channels]));
          return reshape(images, [batch, height, width, channels]);
        },
      };
    },
  };
}

export const resize: GradConfig[] = [resizing('ResizeBilinear', bilinear), resizing('ResizeNearestNeighbor', nearest)];
