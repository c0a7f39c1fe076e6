import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util } from '@tensorflow/tfjs-core';
import type { Emitter, Plan, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { kernel, sameShape, sizeOf, whole } from '../kernel.ts';
import type { Attribute } from '../onnx.ts';
import { emitActivation, emitMatrixTranspose } from './matmul.ts';

/**
 * Convolutions over images laid out [batch, height, width, channels], filters [height, width, in, out], forward and
 * backward. ONNX wants channels first, so a graph transposes on its way in and out.
 */

type Pad = 'valid' | 'same' | number | [[number, number], [number, number], [number, number], [number, number]];

interface Attrs {
  strides: [number, number] | number;
  pad: Pad;
  dataFormat?: 'NHWC' | 'NCHW';
  dilations?: [number, number] | number;
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

export type Geometry = backend_util.Conv2DInfo;

const THRESHOLD = 4096;

const TO_CHANNELS_FIRST = { perm: [0, 3, 1, 2] };
const TO_CHANNELS_LAST = { perm: [0, 2, 3, 1] };

export const channelsFirst = (g: Emitter, x: Value): Value => g.op('Transpose', [x], TO_CHANNELS_FIRST);
export const channelsLast = (g: Emitter, x: Value): Value => g.op('Transpose', [x], TO_CHANNELS_LAST);

/**
 * The sizes of a convolution; `undefined` for those that ONNX would size otherwise (channels first, rounding up) and
 * those that the cpu kernels refuse (strided and dilated at once).
 */
function geometry(x: readonly number[], filter: readonly number[], a: Attrs, depthwise: boolean): Geometry | undefined {
  const dilations = a.dilations ?? 1;
  if (a.dataFormat === 'NCHW' || !backend_util.eitherStridesOrDilationsAreOne(a.strides, dilations)) return undefined;
  const info = backend_util.computeConv2DInfo(
    x as [number, number, number, number],
    filter as [number, number, number, number],
    a.strides,
    dilations,
    a.pad,
    a.dimRoundingMode,
    depthwise,
  );
  return fits(info) ? info : undefined;
}

/** Rows and columns of the input that no window reaches. */
export function rest(info: Geometry): [number, number] {
  const { padInfo: pad } = info;
  return [
    info.inHeight + pad.top + pad.bottom - (info.outHeight - 1) * info.strideHeight - info.effectiveFilterHeight,
    info.inWidth + pad.left + pad.right - (info.outWidth - 1) * info.strideWidth - info.effectiveFilterWidth,
  ];
}

export function fits(info: Geometry): boolean {
  const [rows, columns] = rest(info);
  return rows >= 0 && rows < info.strideHeight && columns >= 0 && columns < info.strideWidth;
}

export function windowAttributes(info: Geometry): Record<string, Attribute> {
  const { padInfo: pad } = info;
  return {
    kernel_shape: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    pads: [pad.top, pad.left, pad.bottom, pad.right],
  };
}

export const geometryKey = (info: Geometry): string => Object.values(windowAttributes(info)).join('/');

/** Multiplications of the forward pass, which each backward pass repeats. */
function work(info: Geometry, depthwise: boolean): number {
  const window = info.filterHeight * info.filterWidth;
  return sizeOf(info.outShape) * window * (depthwise ? 1 : info.inChannels);
}

/** A filter of one pixel at stride one: a matrix product over channels, whatever the layout. */
function isPointwise(info: Geometry): boolean {
  const { padInfo: pad } = info;
  return (
    info.filterHeight * info.filterWidth * info.strideHeight * info.strideWidth === 1 &&
    pad.top + pad.bottom + pad.left + pad.right === 0
  );
}

/** [height, width, in, out] to ONNX's [out, in / groups, height, width]; with one group per input channel if depthwise. */
function emitFilter(g: Emitter, filter: Value, info: Geometry, depthwise: boolean): Value {
  if (!depthwise) return g.op('Transpose', [filter], { perm: [3, 2, 0, 1] });
  const perChannel = g.op('Transpose', [filter], { perm: [2, 3, 0, 1] });
  return g.op('Reshape', [perChannel, g.constant('int64', [info.outChannels, 1, info.filterHeight, info.filterWidth])]);
}

const groups = (info: Geometry, depthwise: boolean): { group: number } => ({ group: depthwise ? info.inChannels : 1 });

interface ForwardInputs {
  x: TensorInfo;
  filter: TensorInfo;
  bias?: TensorInfo;
  preluActivationWeights?: TensorInfo;
}

interface ForwardAttrs extends Attrs {
  activation?: string;
  leakyreluAlpha?: number;
}

const isFloat = (...tensors: (TensorInfo | undefined | null)[]): boolean =>
  tensors.every((t) => t == null || t.dtype === 'float32');

function forward(name: string, depthwise: boolean): Kernel {
  const info = ({ x, filter }: ForwardInputs, attrs: Attrs) => geometry(x.shape, filter.shape, attrs, depthwise);
  return kernel<ForwardInputs, ForwardAttrs>({
    name,
    threshold: THRESHOLD,
    size(inputs, attrs) {
      const sizes = info(inputs, attrs);
      return sizes ? work(sizes, depthwise) : 0;
    },
    plan(inputs, attrs): Plan | undefined {
      const { x, filter, bias, preluActivationWeights: slope } = inputs;
      const sizes = info(inputs, attrs);
      if (!sizes || !isFloat(x, filter, bias, slope)) return undefined;
      const extras = [bias, slope].filter((t) => t != null);
      if (extras.some((t) => sizeOf(t.shape) !== sizes.outChannels)) return undefined;
      const { activation = 'linear', leakyreluAlpha = 0.2 } = attrs;
      const slopeKey = activation === 'leakyrelu' ? leakyreluAlpha : '';
      return {
        key: `${geometryKey(sizes)}:${depthwise ? sizes.outShape[3] + filter.shape.join() : ''}:${activation}:${slopeKey}:${bias ? 'b' : ''}`,
        inputs: [whole(x), whole(filter), ...extras.map((tensor) => ({ tensor, shape: [sizes.outChannels] }))],
        outputs: [{ shape: sizes.outShape, dtype: 'float32' }],
        work: work(sizes, depthwise),
        emit(g, [image, weights, ...rest]) {
          const b = bias ? rest[0]! : null;
          return emitActivation(
            g,
            emitForward(g, image!, weights!, b, sizes, depthwise),
            activation,
            rest[bias ? 1 : 0],
            leakyreluAlpha,
          );
        },
      };
    },
  });
}

function emitForward(
  g: Emitter,
  x: Value,
  filter: Value,
  bias: Value | null,
  info: Geometry,
  depthwise: boolean,
): Value {
  if (!depthwise && isPointwise(info)) {
    const product = g.op('MatMul', [x, g.op('Squeeze', [filter, g.constant('int64', [0, 1])])]);
    return bias ? g.op('Add', [product, bias]) : product;
  }
  const inputs = [channelsFirst(g, x), emitFilter(g, filter, info, depthwise), ...(bias ? [bias] : [])];
  return channelsLast(g, g.op('Conv', inputs, { ...windowAttributes(info), ...groups(info, depthwise) }));
}

/** The gradient by the input: the forward pass transposed. */
function backpropInput(name: string, depthwise: boolean): Kernel {
  const info = (filter: TensorInfo, attrs: Attrs & { inputShape: number[] }) =>
    geometry(attrs.inputShape, filter.shape, attrs, depthwise);
  return kernel<{ dy: TensorInfo; filter: TensorInfo }, Attrs & { inputShape: number[] }>({
    name,
    threshold: THRESHOLD,
    size({ filter }, attrs) {
      const sizes = info(filter, attrs);
      return sizes ? work(sizes, depthwise) : 0;
    },
    plan({ dy, filter }, attrs) {
      const sizes = info(filter, attrs);
      if (!sizes || !isFloat(dy, filter) || !sameShape(dy.shape, sizes.outShape)) return undefined;
      return {
        key: `${geometryKey(sizes)}:${rest(sizes)}:${depthwise ? filter.shape : ''}`,
        inputs: [whole(dy), whole(filter)],
        outputs: [{ shape: attrs.inputShape, dtype: 'float32' }],
        work: work(sizes, depthwise),
        emit(g, [grad, weights]) {
          if (!depthwise && isPointwise(sizes)) {
            const matrix = g.op('Squeeze', [weights!, g.constant('int64', [0, 1])]);
            return g.op('MatMul', [grad!, g.op('Transpose', [matrix], { perm: [1, 0] })]);
          }
          const transposed = g.op(
            'ConvTranspose',
            [channelsFirst(g, grad!), emitFilter(g, weights!, sizes, depthwise)],
            { ...windowAttributes(sizes), ...groups(sizes, depthwise), output_padding: rest(sizes) },
          );
          return channelsLast(g, transposed);
        },
      };
    },
  });
}

/**
 * The gradient by the filter: for each of its pixels, a product of what that pixel met (a strided cut of the padded
 * input) with the gradient, summed over batch and positions. This needs no transposed layout.
 */
function backpropFilter(name: string, depthwise: boolean): Kernel {
  const info = (x: TensorInfo, attrs: Attrs & { filterShape: number[] }) =>
    geometry(x.shape, attrs.filterShape, attrs, depthwise);
  return kernel<{ x: TensorInfo; dy: TensorInfo }, Attrs & { filterShape: number[] }>({
    name,
    threshold: THRESHOLD,
    size({ x }, attrs) {
      const sizes = info(x, attrs);
      return sizes ? work(sizes, depthwise) : 0;
    },
    plan({ x, dy }, attrs) {
      const sizes = info(x, attrs);
      if (!sizes || !isFloat(x, dy) || !sameShape(dy.shape, sizes.outShape)) return undefined;
      const multiplier = attrs.filterShape[3]!;
      return {
        key: `${geometryKey(sizes)}:${sizes.outHeight}x${sizes.outWidth}:${sizes.inChannels}:${multiplier}`,
        inputs: [whole(x), whole(dy)],
        outputs: [
          {
            shape: attrs.filterShape,
            view: [sizeOf(attrs.filterShape.slice(0, 3)), multiplier],
            dtype: 'float32',
          },
        ],
        work: work(sizes, depthwise),
        emit(g, [image, grad]) {
          const product = depthwise ? emitDepthwiseProduct : emitProduct;
          const pixels = emitPixels(g, image!, sizes).map((cut) => product(g, cut, grad!, sizes, multiplier));
          return pixels.length === 1 ? pixels[0]! : g.op('Concat', pixels, { axis: 0 });
        },
      };
    },
  });
}

/** What each pixel of the filter meets: [batch, outHeight, outWidth, channels] each. */
function emitPixels(g: Emitter, x: Value, info: Geometry): Value[] {
  const { padInfo: pad } = info;
  const pads = [0, pad.top, pad.left, 0, 0, pad.bottom, pad.right, 0];
  const padded = pads.some((n) => n > 0) ? g.op('Pad', [x, g.constant('int64', pads)]) : x;
  if (isPointwise(info)) return [padded];
  const cuts: Value[] = [];
  for (let row = 0; row < info.filterHeight; row++) {
    for (let column = 0; column < info.filterWidth; column++) {
      const begin = [row * info.dilationHeight, column * info.dilationWidth];
      const end = [
        begin[0]! + (info.outHeight - 1) * info.strideHeight + 1,
        begin[1]! + (info.outWidth - 1) * info.strideWidth + 1,
      ];
      const vectors = [begin, end, [1, 2], [info.strideHeight, info.strideWidth]];
      cuts.push(g.op('Slice', [padded, ...vectors.map((vector) => g.constant('int64', vector))]));
    }
  }
  return cuts;
}

/** [in, out], the sum over batch and positions of the outer products of channels. */
function emitProduct(g: Emitter, cut: Value, dy: Value, info: Geometry): Value {
  const rows = (value: Value, channels: number): Value => g.op('Reshape', [value, g.constant('int64', [-1, channels])]);
  return g.op('MatMul', [emitMatrixTranspose(g, rows(cut, info.inChannels), 2), rows(dy, info.outChannels)]);
}

/** [channels, multiplier], each channel with its own outputs only. */
function emitDepthwiseProduct(g: Emitter, cut: Value, dy: Value, info: Geometry, multiplier: number): Value {
  const rows = (value: Value, last: number): Value =>
    g.op('Reshape', [value, g.constant('int64', [-1, info.inChannels, last])]);
  return g.op('ReduceSum', [g.op('Mul', [rows(cut, 1), rows(dy, multiplier)]), g.constant('int64', [0])], {
    keepdims: 0,
  });
}

export const convolutionKernels: readonly Kernel[] = [
  forward('Conv2D', false),
  forward('FusedConv2D', false),
  forward('DepthwiseConv2dNative', true),
  forward('FusedDepthwiseConv2D', true),
  backpropInput('Conv2DBackpropInput', false),
  backpropInput('DepthwiseConv2dNativeBackpropInput', true),
  backpropFilter('Conv2DBackpropFilter', false),
  backpropFilter('DepthwiseConv2dNativeBackpropFilter', true),
];
