import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util } from '@tensorflow/tfjs-core';
import type { Emitter, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { kernel, sameShape, sizeOf, whole } from '../kernel.ts';
import type { Geometry } from './convolution.ts';
import { channelsFirst, channelsLast, fits, geometryKey, rest, windowAttributes } from './convolution.ts';

/** Pooling, batch normalization and resizing of images laid out [batch, height, width, channels]. */

const THRESHOLD = 1024;

interface PoolAttrs {
  filterSize: [number, number] | number;
  strides: [number, number] | number;
  pad: 'valid' | 'same' | number;
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function geometry(x: TensorInfo, a: PoolAttrs): Geometry | undefined {
  if (x.dtype !== 'float32') return undefined;
  const info = backend_util.computePool2DInfo(
    x.shape as [number, number, number, number],
    a.filterSize,
    a.strides,
    1,
    a.pad,
    a.dimRoundingMode,
  );
  const { padInfo: pad } = info;
  // ONNX wants every window to reach the image.
  const inside = Math.max(pad.top, pad.bottom) < info.filterHeight && Math.max(pad.left, pad.right) < info.filterWidth;
  return inside && fits(info) ? info : undefined;
}

function pool(name: string, emit: (g: Emitter, x: Value, info: Geometry) => Value): Kernel {
  return kernel<{ x: TensorInfo }, PoolAttrs>({
    name,
    threshold: THRESHOLD,
    plan({ x }, attrs) {
      const info = geometry(x, attrs);
      if (!info) return undefined;
      return {
        key: geometryKey(info),
        inputs: [whole(x)],
        outputs: [{ shape: info.outShape, dtype: 'float32' }],
        work: sizeOf(info.outShape) * info.filterHeight * info.filterWidth,
        emit: (g, [image]) => channelsLast(g, emit(g, channelsFirst(g, image!), info)),
      };
    },
  });
}

/** Each gradient goes to the place that held the maximum, found again by the pooling's own indices. */
const maxPoolGrad = kernel<{ dy: TensorInfo; input: TensorInfo; output: TensorInfo }, PoolAttrs>({
  name: 'MaxPoolGrad',
  threshold: THRESHOLD,
  plan({ dy, input }, attrs) {
    const info = geometry(input, attrs);
    if (!info || dy.dtype !== 'float32' || !sameShape(dy.shape, info.outShape)) return undefined;
    return {
      key: geometryKey(info),
      inputs: [whole(dy), whole(input)],
      outputs: [{ shape: input.shape, dtype: 'float32' }],
      work: sizeOf(info.outShape) * info.filterHeight * info.filterWidth,
      emit(g, [grad, image]) {
        const x = channelsFirst(g, image!);
        const vector = (value: Value): Value => g.op('Reshape', [value, g.constant('int64', [-1])]);
        const [, indices] = g.ops('MaxPool', [x], 2, windowAttributes(info));
        const zeros = g.op('Expand', [g.constant('float32', 0), g.op('Shape', [vector(x)])]);
        const sums = g.op('ScatterElements', [zeros, vector(indices!), vector(channelsFirst(g, grad!))], {
          axis: 0,
          reduction: 'add',
        });
        return channelsLast(g, g.op('Reshape', [sums, g.op('Shape', [x])]));
      },
    };
  },
});

/**
 * Each gradient is shared evenly among its window's `filterHeight * filterWidth` pixels. At padded borders that is not
 * the derivative of AvgPool, which divides by the pixels inside the image; every TensorFlow.js backend computes it so.
 */
const avgPoolGrad = kernel<{ dy: TensorInfo; input: TensorInfo }, PoolAttrs>({
  name: 'AvgPoolGrad',
  threshold: THRESHOLD,
  plan({ dy, input }, attrs) {
    const info = geometry(input, attrs);
    if (!info || dy.dtype !== 'float32' || !sameShape(dy.shape, info.outShape)) return undefined;
    return {
      key: `${geometryKey(info)}:${rest(info)}:${info.inChannels}`,
      inputs: [whole(dy)],
      outputs: [{ shape: input.shape, dtype: 'float32' }],
      work: sizeOf(info.outShape) * info.filterHeight * info.filterWidth,
      emit(g, [grad]) {
        const shares = g.op('Expand', [
          g.constant('float32', 1 / (info.filterHeight * info.filterWidth)),
          g.constant('int64', [info.inChannels, 1, info.filterHeight, info.filterWidth]),
        ]);
        const attributes = { ...windowAttributes(info), group: info.inChannels, output_padding: rest(info) };
        return channelsLast(g, g.op('ConvTranspose', [channelsFirst(g, grad!), shares], attributes));
      },
    };
  },
});

interface BatchNormInputs {
  x: TensorInfo;
  mean: TensorInfo;
  variance: TensorInfo;
  offset?: TensorInfo;
  scale?: TensorInfo;
}

/** `(x - mean) * scale / sqrt(variance + epsilon) + offset`, per channel. */
const fusedBatchNorm = kernel<BatchNormInputs, { varianceEpsilon?: number }>({
  name: 'FusedBatchNorm',
  threshold: THRESHOLD,
  plan({ x, mean, variance, offset, scale }, { varianceEpsilon }) {
    const extras = [scale, offset].filter((t) => t != null);
    const vectors = [mean, variance, ...extras];
    const channels = x.shape[x.shape.length - 1]!;
    if (![x, ...vectors].every((t) => t.dtype === 'float32')) return undefined;
    if (vectors.some((t) => t.shape.length !== 1 || t.shape[0] !== channels)) return undefined;
    const view = [sizeOf(x.shape.slice(0, -1)), channels];
    return {
      key: `${scale ? 's' : ''}${offset ? 'o' : ''}`,
      inputs: [{ tensor: x, shape: view }, ...vectors.map(whole)],
      params: [{ type: 'float32', value: varianceEpsilon ?? 0.001 }],
      outputs: [{ shape: x.shape, view, dtype: 'float32' }],
      emit(g, [image, m, v, ...others], [epsilon]) {
        let factor = g.op('Reciprocal', [g.op('Sqrt', [g.op('Add', [v!, epsilon!])])]);
        if (scale) factor = g.op('Mul', [factor, others[0]!]);
        const scaled = g.op('Mul', [g.op('Sub', [image!, m!]), factor]);
        return offset ? g.op('Add', [scaled, others[scale ? 1 : 0]!]) : scaled;
      },
    };
  },
});

interface ResizeAttrs {
  alignCorners: boolean;
  halfPixelCenters: boolean;
  size: [number, number];
}

const resizeBilinear = kernel<{ images: TensorInfo }, ResizeAttrs>({
  name: 'ResizeBilinear',
  threshold: 256,
  plan({ images }, { alignCorners, halfPixelCenters, size }) {
    if (images.dtype !== 'float32') return undefined;
    const [batch, , , channels] = images.shape as [number, number, number, number];
    const mode = alignCorners ? 'align_corners' : halfPixelCenters ? 'half_pixel' : 'asymmetric';
    return {
      key: mode,
      inputs: [whole(images)],
      params: [[batch, channels, ...size]],
      outputs: [{ shape: [batch, ...size, channels], dtype: 'float32' }],
      emit: (g, [x], [sizes]) =>
        channelsLast(
          g,
          g.op('Resize', [channelsFirst(g, x!), null, null, sizes!], {
            mode: 'linear',
            coordinate_transformation_mode: mode,
          }),
        ),
    };
  },
});

/** For each of `size` places, the nearest of `length`. */
function nearest(length: number, size: number, { alignCorners, halfPixelCenters }: ResizeAttrs): number[] {
  const corners = alignCorners && size > 1;
  const ratio = corners ? (length - 1) / (size - 1) : length / size;
  return Array.from({ length: size }, (_, i) => {
    const source = ratio * (halfPixelCenters ? i + 0.5 : i);
    const index = Math.min(length - 1, alignCorners ? Math.round(source) : Math.floor(source));
    return halfPixelCenters ? Math.max(0, index) : index;
  });
}

const resizeNearest = kernel<{ images: TensorInfo }, ResizeAttrs>({
  name: 'ResizeNearestNeighbor',
  threshold: 256,
  plan({ images }, attrs) {
    if (images.dtype !== 'float32') return undefined;
    const [batch, height, width, channels] = images.shape as [number, number, number, number];
    return {
      key: '',
      inputs: [whole(images)],
      params: [nearest(height, attrs.size[0], attrs), nearest(width, attrs.size[1], attrs)],
      outputs: [{ shape: [batch, ...attrs.size, channels], dtype: 'float32' }],
      emit: (g, [x], [rows, columns]) =>
        g.op('Gather', [g.op('Gather', [x!, rows!], { axis: 1 }), columns!], { axis: 2 }),
    };
  },
});

export const imageKernels: readonly Kernel[] = [
  pool('MaxPool', (g, x, info) => g.op('MaxPool', [x], windowAttributes(info))),
  pool('AvgPool', (g, x, info) => g.op('AveragePool', [x], { ...windowAttributes(info), count_include_pad: 0 })),
  maxPoolGrad,
  avgPoolGrad,
  fusedBatchNorm,
  resizeBilinear,
  resizeNearest,
];
