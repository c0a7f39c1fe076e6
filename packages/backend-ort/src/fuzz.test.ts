import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { values } from './compare.testing.ts';
import { buildModel } from './graph.ts';
import type { OrtBackend } from './index.ts';
import { policy } from './register.ts';
import { loadSession } from './session.ts';

/** `FUZZ_RUNS=20000 FUZZ_SEED=7` looks further. */
const options = { numRuns: Number(process.env.FUZZ_RUNS ?? 1000), seed: Number(process.env.FUZZ_SEED ?? 1) };

/** Draws what a call is made of; much of it does not fit. */
class Draw {
  constructor(readonly g: fc.GeneratorValue) {}

  int(min: number, max: number): number {
    return this.g(fc.integer, { min, max });
  }

  pick<T>(...of: readonly T[]): T {
    return of[this.int(0, of.length - 1)]!;
  }

  ints(count: number, min: number, max: number): number[] {
    return Array.from({ length: count }, () => this.int(min, max));
  }

  shape(minRank = 0, maxRank = 4): number[] {
    return this.ints(this.int(minRank, maxRank), 0, 20).map((n) => (n === 0 ? 0 : 1 + (n % 5)));
  }

  /** How to make a tensor anew on each backend. */
  tensor(shape: number[], dtype = this.pick('float32', 'float32', 'int32', 'bool')): () => tf.Tensor {
    const numbers = values(tf.util.sizeFromShape(shape), -3, 3, this.int(1, 1000));
    if (dtype === 'bool')
      return () =>
        tf.tensor(
          numbers.map((x) => x > 0),
          shape,
          'bool',
        );
    return () => tf.tensor(dtype === 'int32' ? numbers.map(Math.round) : numbers, shape, dtype as 'float32');
  }

  any(minRank?: number, maxRank?: number): () => tf.Tensor {
    return this.tensor(this.shape(minRank, maxRank));
  }

  /** A shape that mostly broadcasts to `shape`. */
  like(shape: number[]): number[] {
    const kept = shape.slice(this.int(0, shape.length)).map((n) => this.pick(n, n, 1));
    return this.int(0, 9) === 0 ? this.shape() : kept;
  }

  /** An axis, now and then one that is not there. */
  axis(shape: number[]): number {
    return shape.length === 0 || this.int(0, 19) === 0 ? this.int(-6, 6) : this.int(-shape.length, shape.length - 1);
  }
}

type Call = () => tf.Tensor | tf.Tensor[];
type Unary = (x: tf.Tensor) => tf.Tensor;
type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const UNARY: readonly Unary[] = [
  ...[
    tf.abs,
    tf.acos,
    tf.acosh,
    tf.asin,
    tf.asinh,
    tf.atan,
    tf.atanh,
    tf.ceil,
    tf.cos,
    tf.cosh,
    tf.elu,
    tf.erf,
    tf.exp,
  ],
  ...[tf.expm1, tf.floor, tf.isFinite, tf.isInf, tf.isNaN, tf.log, tf.log1p, tf.logicalNot, tf.neg, tf.onesLike],
  ...[tf.reciprocal, tf.relu, tf.relu6, tf.round, tf.rsqrt, tf.selu, tf.sigmoid, tf.sign, tf.sin, tf.sinh, tf.softplus],
  ...[
    tf.sqrt,
    tf.square,
    tf.tan,
    tf.tanh,
    tf.zerosLike,
    (x: tf.Tensor) => tf.leakyRelu(x),
    (x: tf.Tensor) => tf.step(x),
    tf.softmax,
  ],
  ...[
    tf.logSoftmax,
    (x: tf.Tensor) => tf.clipByValue(x, -1, 1),
    (x: tf.Tensor) => tf.transpose(x),
    (x: tf.Tensor) => tf.reshape(x, [-1]),
  ],
] as Unary[];
const BINARY: Binary[] = [
  ...[tf.add, tf.sub, tf.mul, tf.div, tf.divNoNan, tf.floorDiv, tf.maximum, tf.minimum, tf.pow, tf.squaredDifference],
  ...[tf.mod, tf.equal, tf.notEqual, tf.greater, tf.greaterEqual, tf.less, tf.lessEqual, tf.logicalAnd, tf.logicalOr],
  ...[tf.logicalXor, tf.prelu, tf.atan2],
] as Binary[];

/** Each draws one call. */
const FAMILIES: Record<string, (d: Draw) => Call> = {
  unary: (d) => {
    const [f, x] = [d.pick(...UNARY), d.any()];
    return () => f(x());
  },
  binary: (d) => {
    const shape = d.shape();
    const [f, a, b] = [d.pick(...BINARY), d.tensor(shape), d.tensor(d.like(shape))];
    return d.pick(true, false) ? () => f(a(), b()) : () => f(b(), a());
  },
  where: (d) => {
    const shape = d.shape();
    const [c, a, b] = [d.tensor(d.like(shape), 'bool'), d.tensor(shape), d.tensor(d.like(shape))];
    return () => tf.where(c(), a(), b());
  },
  reduction: (d) => {
    const shape = d.shape();
    const f = d.pick(tf.sum, tf.mean, tf.max, tf.min, tf.prod, tf.any, tf.all, tf.logSumExp) as typeof tf.sum;
    const axes = d.pick<number[] | undefined>(undefined, [d.axis(shape)], [d.axis(shape), d.axis(shape)]);
    const [x, keep] = [d.tensor(shape), d.pick(true, false)];
    return () => f(x(), axes, keep);
  },
  argReduction: (d) => {
    const shape = d.shape();
    const [f, axis, x] = [d.pick(tf.argMax, tf.argMin), d.axis(shape), d.tensor(shape)];
    return () => f(x(), axis);
  },
  scan: (d) => {
    const shape = d.shape(1);
    // Axes that are not there make cpu return something all the same.
    const axis = d.int(0, Math.max(0, shape.length - 1));
    const [f, x] = [d.pick(tf.cumsum, tf.cumprod), d.tensor(shape)];
    const [exclusive, reverse] = [d.pick(true, false), d.pick(true, false)];
    return () => f(x(), axis, exclusive, reverse);
  },
  matMul: (d) => {
    const [n, k, m] = d.ints(3, 0, 5);
    const batch = d.shape(0, 2);
    const [ta, tb] = [d.pick(true, false), d.pick(true, false)];
    const depth = d.int(0, 9) === 0 ? d.int(0, 5) : k!;
    const a = d.tensor([...batch, ...(ta ? [k!, n!] : [n!, k!])]);
    const b = d.tensor([...d.pick(batch, batch, []), ...(tb ? [m!, depth] : [depth, m!])]);
    return () => tf.matMul(a(), b(), ta, tb);
  },
  slice: (d) => {
    const shape = d.shape(1);
    const begin = shape.map((n) => d.int(0, Math.max(0, n - 1)));
    const sizes = shape.map((n, i) => d.pick(-1, n - begin[i]!, d.int(0, n - begin[i]!), d.int(1, n + 1)));
    const x = d.tensor(shape);
    return () => tf.slice(x(), begin, sizes);
  },
  stridedSlice: (d) => {
    const shape = d.shape(1);
    const [strides, x] = [shape.map(() => d.pick(1, 2, -1, -2)), d.tensor(shape)];
    // Mostly in the direction of the stride; at times counted from the end, at times past it.
    const bounds = shape.map((n, i) => {
      const pair = d.ints(2, -1, n + 1).sort((a, b) => (a - b) * strides[i]!);
      return pair.map((at) => (d.int(0, 3) === 0 ? at - n : at));
    });
    const [begin, end] = [bounds.map((pair) => pair[0]!), bounds.map((pair) => pair[1]!)];
    const masks = d.ints(2, 0, 3);
    return () => tf.stridedSlice(x(), begin, end, strides, masks[0], masks[1]);
  },
  join: (d) => {
    const shape = d.shape(1);
    const axis = d.axis(shape);
    const parts = Array.from({ length: d.int(1, 4) }, () =>
      d.tensor(
        shape.map((n, i) => (i === (axis + shape.length) % shape.length || d.int(0, 39) === 0 ? d.int(0, 4) : n)),
        'float32',
      ),
    );
    const stack = d.pick(true, false, false);
    return () =>
      stack
        ? tf.stack([parts[0]!(), parts[0]!()], axis)
        : tf.concat(
            parts.map((part) => part()),
            axis,
          );
  },
  split: (d) => {
    const shape = d.shape(1);
    const axis = d.axis(shape);
    const [x, parts] = [d.tensor(shape), d.pick<number | number[]>(d.int(1, 4), [1, d.int(0, 3)], shape.at(axis) ?? 1)];
    return d.pick(true, false) ? () => tf.split(x(), parts, axis) : () => tf.unstack(x(), axis);
  },
  rearrange: (d) => {
    const shape = d.shape(1);
    const x = d.tensor(shape);
    const order = d.g(fc.shuffledSubarray, [0, 1, 2, 3].slice(0, shape.length), { minLength: shape.length });
    const reps = shape.map(() => d.int(0, 3));
    const pads = shape.map((): [number, number] => [d.int(0, 2), d.int(0, 2)]);
    const axis = d.axis(shape);
    const [mode, to] = [d.pick<'reflect' | 'symmetric'>('reflect', 'symmetric'), d.shape()];
    return d.pick<Call>(
      () => tf.transpose(x(), order),
      () => tf.tile(x(), reps),
      () => tf.pad(x(), pads, 0.5),
      () => tf.mirrorPad(x(), pads, mode),
      () => tf.reverse(x(), axis),
      () => tf.reshape(x(), to),
      () => tf.expandDims(x(), axis),
      () => tf.squeeze(x()),
    );
  },
  cast: (d) => {
    const [x, dtype] = [d.any(), d.pick('float32', 'int32', 'bool', 'complex64')];
    return dtype === 'complex64'
      ? () => tf.real(tf.cast(x(), dtype))
      : () => tf.cast(x(), dtype as 'float32' | 'int32' | 'bool');
  },
  gather: (d) => {
    const shape = d.shape(1);
    const axis = d.axis(shape);
    const past = d.int(0, 9) === 0 ? 1 : 0;
    const ids = d.ints(d.int(1, 4), -past, Math.max(0, (shape.at(axis) ?? 1) - 1 + past));
    const x = d.tensor(shape);
    return () => tf.gather(x(), tf.tensor1d(ids, 'int32') as tf.Tensor1D & { dtype: 'int32' }, axis);
  },
  scatter: (d) => {
    const [rows, width, count] = [d.int(1, 5), d.int(1, 3), d.int(1, 5)];
    const ids = d.ints(count, 0, rows - (d.int(0, 9) === 0 ? 0 : 1));
    const x = d.tensor([count, width], 'float32');
    return d.pick<Call>(
      () => tf.scatterND(tf.tensor2d(ids, [count, 1], 'int32'), x(), [rows, width]),
      () => tf.unsortedSegmentSum(x(), tf.tensor1d(ids, 'int32'), rows),
      () => tf.gatherND(x(), tf.tensor2d(ids, [count, 1], 'int32')),
      () => tf.oneHot(tf.tensor1d(ids, 'int32'), rows + 1),
    );
  },
  topK: (d) => {
    const [x, k] = [d.any(1), d.int(0, 5)];
    return () => {
      const { values, indices } = tf.topk(x(), k);
      return [values, indices];
    };
  },
  convolution: (d) => {
    const [batch, height, width, channels] = d.ints(4, 1, 6) as [number, number, number, number];
    const x = d.tensor([batch, height, width, channels], 'float32') as () => tf.Tensor4D;
    const [h, w, outputs] = d.ints(3, 1, 3) as [number, number, number];
    const depth = d.int(0, 9) === 0 ? channels + 1 : channels;
    const filter = d.tensor([h, w, depth, outputs], 'float32') as () => tf.Tensor4D;
    const pad = d.pick<'same' | 'valid' | number>('same', 'valid', 1);
    const strides = d.ints(2, 1, 3) as [number, number];
    const [dilations, align] = [d.pick(1, 1, 2), d.pick(true, false)];
    return d.pick<Call>(
      () => tf.conv2d(x(), filter(), strides, pad, 'NHWC', dilations),
      () => tf.depthwiseConv2d(x(), filter(), strides, pad, 'NHWC', dilations),
      () =>
        tf.fused.conv2d({ x: x() as tf.Tensor3D | tf.Tensor4D, filter: filter(), strides, pad, activation: 'relu' }),
      () => tf.maxPool(x(), [h, w], strides, pad),
      () => tf.avgPool(x(), [h, w], strides, pad),
      () =>
        tf.grads((x: tf.Tensor, w: tf.Tensor) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad))([
          x(),
          filter(),
        ]),
      () => tf.image.resizeBilinear(x(), [h * 2, w], align),
      () => tf.image.resizeNearestNeighbor(x(), [h, w * 3], align),
    );
  },
};

type Outcome = { shape: number[]; dtype: string; values: number[] }[] | Error;

function outcome(call: Call): Outcome {
  const before = tf.memory().numTensors;
  let result: Outcome = [];
  tf.tidy(() => {
    try {
      const tensors = [call()].flat();
      // A window larger than its image: what cpu then returns is no tensor.
      if (tensors.some(({ shape }) => shape.some((n) => n < 0))) throw new Error('negative size');
      result = tensors.map((t) => ({ shape: t.shape, dtype: t.dtype, values: Array.from(t.dataSync()) }));
    } catch (error) {
      result = error as Error;
    }
  });
  expect(tf.memory().numTensors, 'leaked tensors').toBe(before);
  return result;
}

function expectClose(actual: Outcome, expected: Outcome): void {
  if (actual instanceof Error && expected instanceof Error) return;
  if (actual instanceof Error) throw new Error('only ort refuses', { cause: actual });
  if (expected instanceof Error) throw new Error('only cpu refuses', { cause: expected });
  expect(actual.map(({ shape, dtype }) => ({ shape, dtype }))).toEqual(
    expected.map(({ shape, dtype }) => ({ shape, dtype })),
  );
  expected.forEach(({ values }, k) => {
    const scale = Math.max(1, ...values.filter(Number.isFinite).map(Math.abs));
    values.forEach((value, i) => {
      const got = actual[k]!.values[i]!;
      if (Number.isFinite(value) ? Math.abs(got - value) <= 1e-5 * scale : Object.is(got, value)) return;
      throw new Error(`output ${k}[${i}] is ${got} on ort and ${value} on cpu`);
    });
  });
}

beforeAll(() => {
  policy.always = true;
});

afterAll(() => {
  policy.always = false;
});

it.each(Object.entries(FAMILIES))('%s calls give what cpu gives, or are refused where it refuses', async (_, draw) => {
  const runs = { ...options, numRuns: Math.ceil(options.numRuns / Object.keys(FAMILIES).length) };
  await fc.assert(
    fc.asyncProperty(fc.gen(), async (g) => {
      const call = draw(new Draw(g));
      await tf.setBackend('cpu');
      const expected = outcome(call);
      await tf.setBackend('ort');
      expectClose(outcome(call), expected);
    }),
    runs,
  );
});

const pool = (): ReturnType<OrtBackend['memory']>['pool'] => (tf.backend() as OrtBackend).memory().pool;

/** Starts from a matrix of 40 KB; intermediate results are disposed of along the way, in any order. */
function program(d: Draw): () => void {
  const steps = Array.from({ length: d.int(3, 12) }, () => ({
    f: d.pick<(x: tf.Tensor, y: tf.Tensor) => tf.Tensor | tf.Tensor[]>(
      (x, y) => tf.add(x, y),
      (x) => tf.exp(tf.neg(tf.abs(x))),
      (x, y) => tf.matMul(x, y, false, true),
      (x) => tf.transpose(x),
      (x) => tf.reshape(tf.reshape(x, [-1]), x.shape),
      (x, y) => tf.concat([tf.slice(x, 0, [50, 100]), tf.slice(y, [50, 0], [50, 100])]),
      (x) => tf.stack(tf.unstack(x)),
      (x, y) => tf.where(tf.greater(x, y), x, y),
      (x) => tf.mul(x, tf.sum(x, 1, true)),
      (x) => tf.clone(x),
      () => tf.conv2d(tf.zeros<tf.Rank.R4>([1, 3, 3, 1]), tf.zeros<tf.Rank.R4>([1, 1, 2, 1]), 1, 'valid'),
    ),
    inputs: d.ints(2, 0, 99),
    disposes: d.int(0, 99),
    twice: d.pick(true, false),
  }));
  const numbers = Float32Array.from(values(10_000, -1, 1));
  return () => {
    const live: tf.Tensor[] = [tf.tidy(() => tf.neg(tf.tensor2d(numbers, [100, 100])))];
    for (const { f, inputs, disposes, twice } of steps) {
      const [x, y] = inputs.map((i) => live[i % live.length]!) as [tf.Tensor, tf.Tensor];
      try {
        live.push(tf.tidy(() => f(x, y)) as tf.Tensor);
      } catch {}
      if (live.length > 1 && disposes % 3 > 0) {
        const [gone] = live.splice(disposes % live.length, 1);
        gone!.dispose();
        if (twice) gone!.dispose();
        // Refused, unless a clone keeps the values alive.
        try {
          tf.neg(gone!).dispose();
        } catch (error) {
          expect(String(error)).toMatch(/disposed/);
        }
      }
    }
    tf.dispose(live);
  };
}

it('programs give back all tensors and all memory that they took', async () => {
  await tf.setBackend('ort');
  fc.assert(
    fc.property(fc.gen(), (g) => {
      const run = program(new Draw(g));
      const { numTensors, numDataBuffers } = tf.memory();
      run();
      const { freeBytes, allocated } = pool();
      run();
      expect(pool()).toMatchObject({ freeBytes, allocated });
      expect(tf.memory()).toMatchObject({ numTensors, numDataBuffers });
    }),
    { ...options, numRuns: Math.ceil(options.numRuns / 10) },
  );
});

it('models that are cut short, damaged or noise are refused, and never crash', () => {
  const model = buildModel('Chain', {
    key: '',
    inputs: [{ tensor: { dataId: {}, shape: [3], dtype: 'float32' }, shape: [3] }],
    params: [[0]],
    outputs: [{ shape: [3], dtype: 'float32' }],
    emit: (g, [x], [axis]) => g.op('Mul', [g.op('CumSum', [x!, axis!]), g.constant('float32', [1, 2, 3])]),
  });
  const vector = (data: Float32Array | BigInt64Array, type: 'float32' | 'int64') =>
    ({ type, data, dims: [data.length], location: 'cpu' }) as const;
  let refused = 0;
  fc.assert(
    fc.property(fc.gen(), (g) => {
      const d = new Draw(g);
      const bytes = Uint8Array.from(d.pick(model, model, new Uint8Array(g(fc.uint8Array, { maxLength: 200 }))));
      for (let i = d.int(0, 4); i > 0 && bytes.length > 0; i--) bytes[d.int(0, bytes.length - 1)] = d.int(0, 255);
      const cut = bytes.slice(0, d.pick(bytes.length, d.int(0, bytes.length)));
      try {
        const session = loadSession(cut, 'kernel');
        try {
          const feeds = { x0: vector(Float32Array.of(1, 2, 3), 'float32'), p0: vector(BigInt64Array.of(0n), 'int64') };
          session.run(feeds, { y0: vector(new Float32Array(3), 'float32') });
        } finally {
          session.dispose();
        }
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        refused++;
      }
    }),
    options,
  );
  expect(refused).toBeGreaterThan(options.numRuns / 2);
});
