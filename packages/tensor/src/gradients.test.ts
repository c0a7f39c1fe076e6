import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import * as tf from './index.ts';
import { type GradCheckOptions, gradCheck } from './testing/index.ts';

type Case = [
  name: string,
  f: (...inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[],
  shapes: number[][],
  options?: GradCheckOptions & { sample?: (i: number) => number },
];

/** Irregular values in [0.25, 1.45] of both signs, at least 0.04 apart within 30 neighbours: no ties, no kinks near. */
const signed = (i: number): number => (i % 2 === 0 ? 1 : -1) * positive(i);
const positive = (i: number): number => 0.25 + (((i + 1) * 0.6180339887) % 1) * 1.2;

const four = (x: tf.Tensor): tf.Tensor4D => x as tf.Tensor4D;

const cases: Case[] = [
  // Matrix products
  [
    'matMul',
    (a, b) => tf.matMul(a, b),
    [
      [2, 3],
      [3, 4],
    ],
  ],
  [
    'matMul transposeA',
    (a, b) => tf.matMul(a, b, true),
    [
      [3, 2],
      [3, 4],
    ],
  ],
  [
    'matMul transposeB',
    (a, b) => tf.matMul(a, b, false, true),
    [
      [2, 3],
      [4, 3],
    ],
  ],
  [
    'matMul transposed both',
    (a, b) => tf.matMul(a, b, true, true),
    [
      [3, 2],
      [4, 3],
    ],
  ],
  [
    'matMul batched',
    (a, b) => tf.matMul(a, b, false, true),
    [
      [2, 2, 3],
      [2, 4, 3],
    ],
  ],
  [
    'matMul batch x matrix',
    (a, b) => tf.matMul(a, b),
    [
      [2, 2, 3],
      [3, 2],
    ],
  ],
  [
    'matMul matrix x batch',
    (a, b) => tf.matMul(a, b),
    [
      [2, 3],
      [2, 3, 2],
    ],
  ],
  [
    'matMul broadcast 1',
    (a, b) => tf.matMul(a, b, true),
    [
      [1, 3, 2],
      [2, 3, 2],
    ],
  ],
  [
    'matMul broadcast right',
    (a, b) => tf.matMul(a, b, true, true),
    [
      [2, 2, 3, 2],
      [1, 2, 2, 3],
    ],
  ],
  [
    'matMul broadcast both',
    (a, b) => tf.matMul(a, b, false, true),
    [
      [2, 1, 2, 2],
      [1, 2, 3, 2],
    ],
  ],
  ['fused matMul', (a, b, bias) => tf.fused.matMul({ a, b, bias }), [[2, 3], [3, 4], [4]]],
  [
    'fused matMul relu',
    (a, b, bias) => tf.fused.matMul({ a, b, bias, activation: 'relu' }),
    [[2, 3], [3, 4], [4]],
    { eps: 1 / 256, atol: 1e-3 },
  ],
  ['dot', (a, b) => tf.dot(a, b), [[3], [3, 2]]],
  ['outerProduct', (a, b) => tf.outerProduct(a as tf.Tensor1D, b as tf.Tensor1D), [[3], [2]]],

  // Elementwise, with broadcasting
  ['add', (a, b) => tf.add(a, tf.mul(b, b)), [[2, 3], [3]]],
  [
    'sub',
    (a, b) => tf.square(tf.sub(a, b)),
    [
      [2, 1],
      [2, 3],
    ],
  ],
  [
    'mul',
    (a, b) => tf.mul(a, b),
    [
      [2, 3],
      [1, 3],
    ],
  ],
  [
    'div',
    (a, b) => tf.div(a, b),
    [
      [2, 3],
      [2, 1],
    ],
    { sample: positive },
  ],
  ['squaredDifference', (a, b) => tf.squaredDifference(a, b), [[2, 3], [3]]],
  [
    'minimum',
    (a, b) => tf.square(tf.minimum(a, b)),
    [
      [2, 3],
      [2, 3],
    ],
  ],
  [
    'maximum',
    (a, b) => tf.square(tf.maximum(a, b)),
    [
      [2, 3],
      [2, 3],
    ],
  ],
  ['maximum broadcast', (a, b) => tf.square(tf.maximum(a, b)), [[2, 3], [3]]],
  ['minimum broadcast', (a, b) => tf.square(tf.minimum(a, b)), [[3], [2, 3]]],
  ['pow', (a, b) => tf.pow(a, b), [[2, 3], [3]], { sample: positive }],
  ['pow constant', (a) => tf.pow(a, 3), [[5]]],
  ['atan2', (a, b) => tf.atan2(a, b), [[4], [4]], { sample: positive }],
  ['mod', (a) => tf.mod(tf.square(a), 0.37), [[1]]],
  [
    'where',
    (a, b) => tf.square(tf.where(tf.greater(a, 0), a, b)),
    [
      [2, 3],
      [2, 3],
    ],
  ],
  [
    'where broadcast branch',
    (a, b) => tf.where(tf.tensor([true, false, true], [3], 'bool'), tf.square(a), tf.exp(b)),
    [
      [2, 3],
      [1, 3],
    ],
  ],
  [
    'where scalar branch',
    (a, b) => tf.where(tf.tensor([1, 0, 0, 1], [2, 2], 'bool'), tf.square(a), tf.exp(b)),
    [[2, 2], []],
  ],
  [
    'where broadcast condition',
    (a, b) => tf.where(tf.tensor([[1], [0]], [2, 1], 'bool'), tf.square(a), tf.exp(b)),
    [[2, 3], [3]],
  ],
  ['addN', (a, b) => tf.square(tf.addN([a, b, a])), [[3], [3]]],

  // Elementwise, one argument
  ['abs', (x) => tf.mul(tf.abs(x), x), [[5]]],
  ['neg', (x) => tf.square(tf.neg(x)), [[5]]],
  ['square', (x) => tf.square(x), [[5]]],
  ['sqrt', (x) => tf.sqrt(x), [[5]], { sample: (i) => positive(i) + 0.3 }],
  ['rsqrt', (x) => tf.rsqrt(x), [[5]], { sample: (i) => positive(i) + 0.3 }],
  ['reciprocal', (x) => tf.reciprocal(x), [[5]], { sample: (i) => positive(i) + 0.3 }],
  ['exp', (x) => tf.exp(x), [[5]]],
  ['expm1', (x) => tf.expm1(x), [[5]]],
  ['log', (x) => tf.log(x), [[5]], { sample: (i) => positive(i) + 0.3 }],
  ['log1p', (x) => tf.log1p(x), [[5]], { sample: positive }],
  ['sin', (x) => tf.sin(x), [[5]]],
  ['cos', (x) => tf.cos(x), [[5]]],
  ['tan', (x) => tf.tan(tf.mul(x, 0.5)), [[5]]],
  ['tanh', (x) => tf.tanh(x), [[5]]],
  ['sinh', (x) => tf.sinh(x), [[5]]],
  ['cosh', (x) => tf.cosh(x), [[5]]],
  ['atan', (x) => tf.atan(x), [[5]]],
  ['asin', (x) => tf.asin(tf.mul(x, 0.5)), [[5]]],
  ['acos', (x) => tf.acos(tf.mul(x, 0.5)), [[5]]],
  ['atanh', (x) => tf.atanh(tf.mul(x, 0.5)), [[5]]],
  ['asinh', (x) => tf.asinh(x), [[5]]],
  ['erf', (x) => tf.erf(x), [[5]]],
  ['sigmoid', (x) => tf.sigmoid(x), [[5]]],
  ['logSigmoid', (x) => tf.logSigmoid(x), [[5]]],
  ['softplus', (x) => tf.softplus(x), [[5]]],
  ['relu', (x) => tf.square(tf.relu(x)), [[5]]],
  ['relu6', (x) => tf.square(tf.relu6(x)), [[5]]],
  ['leakyRelu', (x) => tf.square(tf.leakyRelu(x, 0.1)), [[5]]],
  ['prelu', (x, a) => tf.square(tf.prelu(x, a)), [[2, 3], [3]]],
  ['elu', (x) => tf.elu(x), [[5]]],
  ['selu', (x) => tf.selu(x), [[5]]],
  ['clipByValue', (x) => tf.square(tf.clipByValue(x, -0.5, 0.7)), [[5]]],
  ['cast', (x) => tf.square(tf.cast(x, 'float32')), [[3]]],

  // Reductions
  ['sum', (x) => tf.square(tf.sum(x, [0, 2])), [[2, 3, 2]]],
  ['sum keepDims', (x) => tf.square(tf.sum(x, 1, true)), [[2, 3]]],
  ['mean', (x) => tf.square(tf.mean(x, -1, true)), [[2, 3]]],
  ['mean all', (x) => tf.square(tf.mean(x)), [[2, 3]]],
  ['max', (x) => tf.square(tf.max(x, 1)), [[2, 3]]],
  ['max all', (x) => tf.square(tf.max(x)), [[2, 3]]],
  ['max keepDims', (x) => tf.square(tf.max(x, 0, true)), [[2, 3]]],
  ['min', (x) => tf.square(tf.min(x, [0, 1])), [[2, 3, 2]]],
  ['prod', (x) => tf.prod(x, 1), [[2, 3]]],
  ['prod all', (x) => tf.prod(x), [[2, 2]]],
  ['prod keepDims', (x) => tf.prod(x, 0, true), [[3, 2]]],
  ['norm', (x) => tf.norm(x, 'euclidean', 1), [[2, 3]]],
  [
    'moments',
    (x) => {
      const { mean, variance } = tf.moments(x, 1, true);
      return [mean, variance];
    },
    [[2, 3]],
  ],
  ['cumsum', (x) => tf.square(tf.cumsum(x, 1)), [[2, 4]]],
  ['cumsum exclusive reverse', (x) => tf.square(tf.cumsum(x, 0, true, true)), [[3, 2]]],
  [
    'cumprod of zeros, exclusive reverse',
    (x) => tf.cumprod(tf.mul(x, tf.tensor1d([1, 0, 1, 0, 1])), 1, true, true),
    [[2, 5]],
  ],
  ['cumprod axis 0', (x) => tf.cumprod(x, 0), [[6, 2]]],
  ['cumprod', (x) => tf.cumprod(x, 1), [[2, 3]]],
  ['softmax', (x) => tf.softmax(x), [[2, 4]]],
  ['logSoftmax', (x) => tf.logSoftmax(x), [[2, 4]]],
  ['logSumExp', (x) => tf.logSumExp(x, 1), [[2, 4]]],
  ['logSumExp keepDims', (x) => tf.logSumExp(x, [0, 1], true), [[2, 4]]],

  // Shapes and indices
  ['reshape', (x) => tf.square(tf.reshape(x, [3, 2])), [[2, 3]]],
  ['expandDims squeeze', (x) => tf.square(tf.squeeze(tf.expandDims(x, 1))), [[3]]],
  ['transpose', (x) => tf.square(tf.transpose(x, [2, 0, 1])), [[2, 3, 2]]],
  ['slice', (x) => tf.square(tf.slice(x, [0, 1], [2, 2])), [[2, 4]]],
  ['stridedSlice backwards', (x) => tf.square(tf.stridedSlice(x, [3, 0], [0, 2], [-2, 1])), [[4, 2]]],
  ['stridedSlice', (x) => tf.square(tf.stridedSlice(x, [0, 1], [3, 4], [2, 2])), [[3, 4]]],
  [
    'concat',
    (a, b) => tf.square(tf.concat([a, b, a], 1)),
    [
      [2, 1],
      [2, 2],
    ],
  ],
  ['split', (x) => tf.split(tf.square(x), [1, 3], 1), [[2, 4]]],
  [
    'stack',
    (a, b) => tf.square(tf.stack([a, b, a], 1)),
    [
      [2, 2],
      [2, 2],
    ],
  ],
  ['unstack', (x) => tf.unstack(tf.square(x), 1), [[2, 3]]],
  [
    'pad',
    (x) =>
      tf.square(
        tf.pad(
          x,
          [
            [1, 0],
            [0, 2],
          ],
          0.5,
        ),
      ),
    [[2, 2]],
  ],
  [
    'mirrorPad symmetric',
    (x) =>
      tf.square(
        tf.mirrorPad(
          x,
          [
            [2, 1],
            [0, 1],
          ],
          'symmetric',
        ),
      ),
    [[3, 2]],
  ],
  ['mirrorPad', (x) => tf.square(tf.mirrorPad(x, [[1, 1]], 'reflect')), [[3]]],
  ['tile', (x) => tf.square(tf.tile(x, [2, 3])), [[2, 2]]],
  ['tile rank 3', (x) => tf.square(tf.tile(x, [2, 1, 2])), [[1, 2, 2]]],
  ['tile rank 5', (x) => tf.square(tf.tile(x, [2, 1, 1, 2, 1])), [[1, 1, 2, 2, 1]]],
  ['broadcastTo', (x) => tf.square(tf.broadcastTo(x, [2, 2, 3])), [[2, 1]].map((s) => [s[0], 3])],
  ['gather', (x) => tf.square(tf.gather(x, tf.tensor1d([2, 0, 2], 'int32'))), [[3, 2]]],
  ['gather axis 1', (x) => tf.square(tf.gather(x, tf.tensor1d([2, 0, 2], 'int32'), 1)), [[2, 3, 2]]],
  [
    'gather matrix of ids',
    (x) =>
      tf.square(
        tf.gather(
          x,
          tf.tensor2d(
            [
              [2, 0],
              [1, 1],
            ],
            [2, 2],
            'int32',
          ),
        ),
      ),
    [[3, 2]],
  ],
  [
    'gather last axis, matrix of ids',
    (x) =>
      tf.square(
        tf.gather(
          x,
          tf.tensor2d(
            [
              [2, 0],
              [1, 1],
            ],
            [2, 2],
            'int32',
          ),
          -1,
        ),
      ),
    [[2, 3]],
  ],
  [
    'gather batchDims',
    (x) =>
      tf.square(
        tf.gather(
          x,
          tf.tensor2d(
            [
              [2, 0],
              [1, 1],
            ],
            [2, 2],
            'int32',
          ),
          1,
          1,
        ),
      ),
    [[2, 3]],
  ],
  [
    'gatherND',
    (x) =>
      tf.square(
        tf.gatherND(
          x,
          tf.tensor2d(
            [
              [2, 0],
              [1, 1],
            ],
            [2, 2],
            'int32',
          ),
        ),
      ),
    [[3, 2]],
  ],
  ['unsortedSegmentSum', (x) => tf.square(tf.unsortedSegmentSum(x, tf.tensor1d([1, 0, 1], 'int32'), 3)), [[3, 2]]],
  ['reverse', (x) => tf.mul(tf.reverse(x, [1]), x), [[2, 3]]],
  ['depthToSpace', (x) => tf.square(tf.depthToSpace(four(x), 2, 'NHWC')), [[1, 1, 2, 4]]],
  ['spaceToBatchND', (x) => tf.square(tf.spaceToBatchND(x, [2], [[0, 1]])), [[1, 3, 1]]],
  ['batchToSpaceND', (x) => tf.square(tf.batchToSpaceND(x, [2], [[0, 1]])), [[2, 2, 1]]],
  [
    'oneHot product',
    (x) => tf.matMul(tf.cast(tf.oneHot(tf.tensor1d([1, 0], 'int32'), 3), 'float32'), tf.square(x)),
    [[3, 2]],
  ],

  // Convolution and pooling
  [
    'conv1d',
    (x, w) => tf.conv1d(x as tf.Tensor3D, w as tf.Tensor3D, 1, 'same'),
    [
      [1, 4, 2],
      [3, 2, 2],
    ],
  ],
  [
    'conv2d valid',
    (x, w) => tf.conv2d(four(x), four(w), 1, 'valid'),
    [
      [1, 3, 3, 2],
      [2, 2, 2, 2],
    ],
  ],
  [
    'conv2d same strided',
    (x, w) => tf.conv2d(four(x), four(w), 2, 'same'),
    [
      [1, 4, 3, 1],
      [3, 3, 1, 2],
    ],
  ],
  [
    'conv2d explicit padding',
    (x, w) => tf.conv2d(four(x), four(w), 1, 1),
    [
      [2, 3, 3, 1],
      [3, 3, 1, 1],
    ],
  ],
  [
    'conv2d dilated',
    (x, w) => tf.conv2d(four(x), four(w), 1, 'valid', 'NHWC', 2),
    [
      [1, 4, 4, 1],
      [2, 2, 1, 1],
    ],
  ],
  [
    'fused conv2d',
    (x, filter, bias) => tf.fused.conv2d({ x: four(x), filter: four(filter), bias, strides: 1, pad: 'same' }),
    [[1, 3, 3, 1], [2, 2, 1, 2], [2]],
  ],
  [
    'conv2dTranspose',
    (x, w) => tf.conv2dTranspose(four(x), four(w), [1, 4, 4, 2], 2, 'same'),
    [
      [1, 2, 2, 1],
      [3, 3, 2, 1],
    ],
  ],
  [
    'depthwiseConv2d',
    (x, w) => tf.depthwiseConv2d(four(x), four(w), 1, 'same'),
    [
      [1, 3, 3, 2],
      [2, 2, 2, 1],
    ],
  ],
  [
    'depthwiseConv2d strided multiplier',
    (x, w) => tf.depthwiseConv2d(four(x), four(w), 2, 'same'),
    [
      [1, 4, 4, 1],
      [3, 3, 1, 2],
    ],
  ],
  [
    'depthwiseConv2d dilated',
    (x, w) => tf.depthwiseConv2d(four(x), four(w), 1, 'valid', 'NHWC', 2),
    [
      [1, 4, 4, 1],
      [2, 2, 1, 2],
    ],
  ],
  [
    'separableConv2d',
    (x, d, p) => tf.separableConv2d(four(x), four(d), four(p), 1, 'same'),
    [
      [1, 3, 3, 1],
      [2, 2, 1, 2],
      [1, 1, 2, 2],
    ],
  ],
  [
    'conv3d',
    (x, w) => tf.conv3d(x as tf.Tensor5D, w as tf.Tensor5D, 1, 'same'),
    [
      [1, 2, 2, 2, 1],
      [2, 2, 2, 1, 1],
    ],
  ],
  ['maxPool', (x) => tf.square(tf.maxPool(four(x), 2, 2, 'valid')), [[1, 4, 4, 1]]],
  ['maxPool overlapping', (x) => tf.square(tf.maxPool(four(x), 3, 1, 'same')), [[1, 3, 3, 2]]],
  ['avgPool', (x) => tf.square(tf.avgPool(four(x), 2, 2, 'valid')), [[1, 4, 4, 1]]],
  ['avgPool same', (x) => tf.square(tf.avgPool(four(x), 3, 2, 'same')), [[1, 4, 4, 1]]],
  ['resizeBilinear', (x) => tf.square(tf.image.resizeBilinear(four(x), [4, 4])), [[1, 2, 3, 1]]],
  ['resizeBilinear aligned', (x) => tf.square(tf.image.resizeBilinear(four(x), [3, 2], true)), [[1, 2, 3, 1]]],
  [
    'resizeBilinear half-pixel centers',
    (x) => tf.square(tf.image.resizeBilinear(four(x), [4, 5], false, true)),
    [[1, 2, 3, 1]],
  ],
  ['resizeNearestNeighbor', (x) => tf.square(tf.image.resizeNearestNeighbor(four(x), [4, 4])), [[1, 2, 3, 1]]],
  [
    'batchNorm',
    (x, m, v, o, s) =>
      tf.batchNorm(x, m as tf.Tensor1D, tf.square(v) as tf.Tensor1D, o as tf.Tensor1D, s as tf.Tensor1D),
    [[2, 2, 2, 3], [3], [3], [3], [3]],
    { sample: (i) => positive(i) + 0.5 },
  ],
  [
    'batchNorm of batch statistics',
    (x) => {
      const { mean, variance } = tf.moments(x, 0);
      return tf.batchNorm(x, mean as tf.Tensor1D, variance as tf.Tensor1D);
    },
    [[4, 2]],
  ],
];

beforeAll(() => tf.setBackend('cpu'));

describe('gradients of first and second order', () => {
  it.each(cases)('%s', (_, f, shapes, options = {}) => {
    const { sample = signed, ...check } = options;
    let next = 0;
    const inputs = shapes.map((shape) =>
      tf.tensor(
        Array.from({ length: tf.util.sizeFromShape(shape) }, () => sample(next++)),
        shape,
        'float32',
      ),
    );
    gradCheck(f, inputs, check);
    const before = tf.memory().numTensors;
    tf.dispose(
      tf.grads((...xs) => [f(...xs)].flat().reduce((total, y) => tf.add(total, tf.sum(y)), tf.scalar(0)))(inputs),
    );
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose(inputs);
  });
});

describe('the memory of gradients', () => {
  /** How many tensors there are each time a gradient is computed, for a chain of `length` operations. */
  function counts(length: number): number[] {
    const seen: number[] = [];
    const link = tf.customGrad((...args) => {
      const [x, save] = args as unknown as [tf.Tensor, (tensors: tf.Tensor[]) => void];
      save([x]);
      return {
        value: tf.square(x),
        gradFunc: (dy: tf.Tensor, [x]: tf.Tensor[]) => {
          seen.push(tf.memory().numTensors);
          return tf.mul(tf.mul(dy, 2), x);
        },
      };
    });
    const x = tf.scalar(1);
    const chain = (x: tf.Tensor): tf.Tensor => Array.from({ length }).reduce<tf.Tensor>((y) => link(y), x);
    tf.grad(chain)(x).dispose();
    x.dispose();
    return seen;
  }

  it('is given back along the way', () => {
    const seen = counts(20);
    expect(seen).toHaveLength(20);
    // Each step back frees more (what the operation saved, what its gradient was made of) than it makes.
    for (let i = 2; i < seen.length; i++) expect(seen[i]).toBeLessThan(seen[i - 1]);
  });

  it('leaves alone what others own', () => {
    const constant = tf.tensor1d([5, 6]);
    const dy = tf.tensor1d([2, 3]);
    const x = tf.tensor1d([1, 2]);
    const before = tf.memory().numTensors;
    const withConstant = tf.customGrad((x) => ({
      value: tf.clone(x as tf.Tensor),
      gradFunc: () => constant,
    }));
    const dx = tf.tidy(() => tf.clone(tf.grad((x) => withConstant(tf.mul(x, 1)))(x, dy)));
    expect(Array.from(dx.dataSync())).toEqual([5, 6]);
    const own = tf.tidy(() =>
      tf.clone(
        tf.grad((x) => tf.customGrad((x) => ({ value: tf.clone(x as tf.Tensor), gradFunc: (dy) => dy }))(x))(x, dy),
      ),
    );
    expect(Array.from(own.dataSync())).toEqual([2, 3]);
    tf.dispose([dx, own]);
    expect(constant.isDisposed || dy.isDisposed).toBe(false);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose([constant, dy, x]);
  });

  it('serves one tensor that stands for several gradients, and gradients of intermediate results', () => {
    const [a, b] = [tf.scalar(3), tf.scalar(4)];
    const sum = tf.customGrad((...args) => {
      const [a, b] = args as tf.Tensor[];
      return { value: tf.add(a, b), gradFunc: (dy: tf.Tensor) => [dy, dy] };
    });
    const before = tf.memory().numTensors;
    const [da, db] = tf.grads((a, b) => sum(tf.square(a), tf.square(b)))([a, b]);
    expect([da.dataSync()[0], db.dataSync()[0]]).toEqual([6, 8]);
    const second = tf.grad((x) => tf.sum(tf.grad((x) => sum(tf.pow(x, 3), tf.square(x)))(x)))(a);
    expect(second.dataSync()[0]).toBeCloseTo(20, 4);
    tf.dispose([da, db, second]);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose([a, b]);
  });
});
