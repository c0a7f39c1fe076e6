import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { floats, ints, values } from './compare.testing.ts';
import { type JitState, jit, type OrtBackend } from './index.ts';
import { Session } from './session.ts';

beforeEach(async () => {
  await tf.setBackend('ort');
});

/** One tensor as state. */
class Cell implements JitState {
  tensor: tf.Tensor;
  mode = '';

  constructor(tensor: tf.Tensor) {
    this.tensor = tf.keep(tensor);
  }

  read(): tf.Tensor[] {
    return [this.tensor];
  }

  write([tensor]: readonly tf.Tensor[]): void {
    this.set(tensor!);
  }

  set(tensor: tf.Tensor): void {
    if (tensor === this.tensor) return;
    this.tensor.dispose();
    this.tensor = tf.keep(tensor);
  }

  signature(): string {
    return this.mode;
  }
}

function expectClose(actual: tf.Tensor, expected: tf.Tensor, relative = 1e-5): void {
  expect([actual.shape, actual.dtype]).toEqual([expected.shape, expected.dtype]);
  const want = expected.dataSync();
  const scale = Math.max(1, ...want.map(Math.abs));
  actual.dataSync().forEach((value, i) => {
    expect(Math.abs(value - want[i]!), `element ${i}`).toBeLessThanOrEqual(relative * scale);
  });
}

/** Expect `fn` to give the same under jit, twice, with one trace and no leak. */
function expectSame(fn: (...args: tf.Tensor[]) => tf.Tensor | tf.Tensor[], ...args: tf.Tensor[]): void {
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const expected = [fn(...args)].flat();
    const jitted = jit(fn);
    for (let call = 0; call < 2; call++) {
      const actual = [jitted(...args)].flat();
      expect(actual.length).toBe(expected.length);
      for (const [i, tensor] of actual.entries()) expectClose(tensor, expected[i]!);
    }
    expect(jitted.traces).toBe(1);
    jitted.dispose();
  });
  expect(tf.memory().numTensors).toBe(before);
}

describe('jit', () => {
  it('computes what the function does', () => {
    const x = floats([8, 16]);
    const w = floats([16, 32], -1, 1, 2);
    expectSame((a, b) => tf.softmax(tf.relu(tf.matMul(a!, b!))), x, w);
    tf.dispose([x, w]);
  });

  it('traces once for each combination of shapes, types and plain values', () => {
    const scaled = jit((x: tf.Tensor, options: { by: number; list: string[] }) => tf.mul(x, options.by));
    const run = (shape: number[], by: number, list: string[]): number =>
      tf.tidy(() => scaled(tf.ones(shape), { by, list }).dataSync()[0]!);
    expect(run([2], 3, ['a'])).toBe(3);
    expect(run([2], 3, ['a'])).toBe(3);
    expect(scaled.traces).toBe(1);
    expect(run([3], 3, ['a'])).toBe(3);
    expect(run([2], 4, ['a'])).toBe(4);
    expect(run([2], 4, ['b'])).toBe(4);
    expect(scaled.traces).toBe(4);
    scaled.dispose();
  });

  it('keeps at most maxGraphs graphs', () => {
    const before = tf.memory().numTensors;
    const table = tf.ones([2000]);
    const double = jit((x: tf.Tensor) => tf.add(tf.sum(table), tf.mul(x, 2)), { maxGraphs: 2 });
    for (const size of [1, 2, 3, 1]) tf.tidy(() => void double(tf.ones([size])));
    expect(double.traces).toBe(4);
    double.dispose();
    table.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('takes and returns tensors in arrays, objects and maps', () => {
    const before = tf.memory().numTensors;
    const swap = jit(({ pair: [a, b] }: { pair: tf.Tensor[] }) => ({
      map: new Map([['sum', tf.add(a!, b!)]]),
      list: [b!, a!, tf.scalar(5)],
      text: 'x',
    }));
    for (let call = 0; call < 2; call++) {
      const a = tf.tensor1d([1, 2]);
      const b = tf.tensor1d([3, 4]);
      const { map, list, text } = swap({ pair: [a, b] });
      tf.dispose([a, b]);
      expect(Array.from(map.get('sum')!.dataSync())).toEqual([4, 6]);
      expect(list.map((t) => Array.from(t.dataSync()))).toEqual([[3, 4], [1, 2], [5]]);
      expect(text).toBe('x');
      tf.dispose([...map.values(), ...list]);
    }
    swap.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('updates the state', () => {
    const before = tf.memory().numTensors;
    const data = values(64);
    const train = (useJit: boolean): number[] => {
      const w = new Cell(tf.tensor2d(values(16, -1, 1, 3), [4, 4]));
      const m = new Cell(tf.zeros([4, 4]));
      const step = (x: tf.Tensor): tf.Tensor => {
        // Mean squared error of tanh(x w), and its gradient.
        const y = tf.tanh(tf.matMul(x as tf.Tensor2D, w.tensor as tf.Tensor2D));
        const error = tf.sub(y, 0.5);
        const value = tf.mean(tf.square(error));
        const grad = tf.matMul(x as tf.Tensor2D, tf.mul(error, tf.sub(1, tf.square(y))) as tf.Tensor2D, true);
        m.set(tf.add(tf.mul(m.tensor, 0.9), grad));
        w.set(tf.sub(w.tensor, tf.mul(m.tensor, 0.01)));
        return value;
      };
      const jitted = jit(step, { state: [w, m] });
      const run = useJit ? jitted : step;
      const losses = Array.from({ length: 20 }, () => tf.tidy(() => run(tf.tensor2d(data, [16, 4])).dataSync()[0]!));
      expect(jitted.traces).toBe(useJit ? 1 : 0);
      jitted.dispose();
      tf.dispose([w.tensor, m.tensor]);
      return losses;
    };
    const expected = train(false);
    for (const [i, loss] of train(true).entries()) {
      expect(Math.abs(loss - expected[i]!)).toBeLessThan(1e-5 * expected[0]!);
    }
    expect(expected[19]).toBeLessThan(expected[0]! * 0.9);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('reads the state anew at every call, whoever set it', () => {
    const cell = new Cell(tf.scalar(1));
    const plus = jit((x: tf.Tensor) => tf.add(x, cell.tensor), { state: [cell] });
    const at = (x: number): number => tf.tidy(() => plus(tf.scalar(x)).dataSync()[0]!);
    expect(at(1)).toBe(2);
    cell.set(tf.scalar(10));
    expect(at(1)).toBe(11);
    expect(plus.traces).toBe(1);
    cell.mode = 'other';
    expect(at(1)).toBe(11);
    expect(plus.traces).toBe(2);
    plus.dispose();
    cell.tensor.dispose();
  });

  it('gives state that shares memory its own', () => {
    const zeros = tf.zeros([4]);
    const a = new Cell(zeros.clone());
    const b = new Cell(zeros.clone());
    zeros.dispose();
    const step = jit(
      () => {
        a.set(tf.add(a.tensor, 1));
        b.set(tf.add(b.tensor, 2));
      },
      { state: [a, b] },
    );
    for (let i = 0; i < 3; i++) step();
    expect([a.tensor.dataSync()[0], b.tensor.dataSync()[3]]).toEqual([3, 6]);
    step.dispose();
    tf.dispose([a.tensor, b.tensor]);
  });

  it('takes tensors found outside as they were', () => {
    const before = tf.memory().numTensors;
    for (const size of [4, 4000]) {
      const outside = tf.fill([size], 2);
      const times = jit((x: tf.Tensor) => tf.mul(x, outside));
      tf.tidy(() => void times(tf.ones([size])));
      outside.dispose();
      tf.tidy(() => {
        expect(times(tf.ones([size])).dataSync()[size - 1]).toBe(2);
      });
      times.dispose();
    }
    expect(tf.memory().numTensors).toBe(before);
  });

  it('is part of the graph of a function that calls it', () => {
    const inner = jit((x: tf.Tensor) => tf.square(x));
    const outer = jit((x: tf.Tensor) => tf.add(inner(x), 1));
    tf.tidy(() => {
      expect(outer(tf.scalar(3)).dataSync()[0]).toBe(10);
    });
    expect([inner.traces, outer.traces]).toEqual([0, 1]);
    outer.dispose();
  });
});

describe('what depends on state that stays the same', () => {
  const WIDTH = 40;
  const square = (seed: number): tf.Tensor2D => floats([WIDTH, WIDTH], -1, 1, seed) as tf.Tensor2D;

  afterEach(() => vi.restoreAllMocks());

  /** Call `fn` of `x` once after each of the `changes`: how many graphs ran each time; its results are as without jit. */
  function graphsRun(
    fn: (x: tf.Tensor) => tf.Tensor,
    state: JitState[],
    changes: (() => void)[],
    options: { hoist?: boolean } = {},
  ): number[] {
    const jitted = jit(fn, { state, ...options });
    const run = vi.spyOn(Session.prototype, 'run');
    const counts = changes.map((change, i) =>
      tf.tidy(() => {
        change();
        const x = square(100 + i);
        const expected = fn(x).dataSync();
        run.mockClear();
        const actual = jitted(x);
        const count = run.mock.calls.length;
        expectClose(actual, tf.tensor(expected, actual.shape));
        return count;
      }),
    );
    jitted.dispose();
    run.mockRestore();
    return counts;
  }
  const stays = (): void => {};

  it('is computed when it changes, and kept from the second call on', () => {
    const before = tf.memory().numTensors;
    const [a, b] = [new Cell(square(1)), new Cell(square(2))];
    const fn = (x: tf.Tensor): tf.Tensor =>
      tf.matMul(x as tf.Tensor2D, tf.exp(tf.matMul(a.tensor as tf.Tensor2D, b.tensor as tf.Tensor2D)) as tf.Tensor2D);
    const changed = (): void => a.set(square(3));
    // The whole graph; then what is kept and the rest; then the rest alone, until the state is another.
    const changes = [stays, stays, stays, changed, stays, changed, () => b.set(square(4)), stays];
    expect(graphsRun(fn, [a, b], changes)).toEqual([1, 2, 1, 2, 1, 2, 2, 1]);
    expect(graphsRun(fn, [a, b], [stays, changed, changed, changed])).toEqual([1, 1, 1, 1]);
    expect(graphsRun(fn, [a, b], [stays, stays, stays], { hoist: false })).toEqual([1, 1, 1]);
    tf.dispose([a.tensor, b.tensor]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it('is not kept where it is a few numbers, or the same numbers elsewhere', () => {
    const [a, small] = [new Cell(square(1)), new Cell(tf.ones([WIDTH]))];
    const scaled = (x: tf.Tensor): tf.Tensor => tf.mul(x, tf.exp(small.tensor));
    expect(graphsRun(scaled, [small], [stays, stays, stays])).toEqual([1, 1, 1]);
    const moved = (x: tf.Tensor): tf.Tensor =>
      tf.matMul(
        x as tf.Tensor2D,
        tf.tile(tf.transpose(tf.slice(a.tensor, [0, 0], [20, WIDTH])), [1, 2]) as tf.Tensor2D,
      );
    expect(graphsRun(moved, [a], [stays, stays, stays])).toEqual([1, 1, 1]);
    // A norm is a few numbers made of many.
    const normed = (x: tf.Tensor): tf.Tensor => tf.div(x, tf.norm(a.tensor, 2, 0));
    expect(graphsRun(normed, [a], [stays, stays, stays])).toEqual([1, 2, 1]);
    tf.dispose([a.tensor, small.tensor]);
  });

  it('is computed in every call where the function replaces the state, or draws numbers', () => {
    const [a, fixed] = [new Cell(square(1)), new Cell(square(2))];
    const run = vi.spyOn(Session.prototype, 'run');
    const backend = tf.backend() as OrtBackend;
    let draws = 0;
    const step = jit(
      () => {
        const draw = () => new Float32Array(WIDTH * WIDTH).fill(++draws);
        const noise = tf.engine().makeTensorFromTensorInfo(backend.hostInput([WIDTH, WIDTH], 'float32', draw));
        a.set(tf.add(tf.exp(tf.neg(tf.abs(a.tensor))), tf.tanh(fixed.tensor)));
        return tf.exp(tf.sub(tf.tanh(fixed.tensor), noise));
      },
      { state: [a, fixed] },
    );
    const first = fixed.tensor.dataSync()[0]!;
    let value = a.tensor.dataSync()[0]!;
    const counts = [1, 2, 3, 4].map((call) =>
      tf.tidy(() => {
        run.mockClear();
        const result = step();
        const count = run.mock.calls.length;
        value = Math.exp(-Math.abs(value)) + Math.tanh(first);
        expect(a.tensor.dataSync()[0]).toBeCloseTo(value, 5);
        expect(result.dataSync()[0]).toBeCloseTo(Math.exp(Math.tanh(first) - call), 5);
        return count;
      }),
    );
    expect(counts).toEqual([1, 2, 1, 1]);
    step.dispose();
    tf.dispose([a.tensor, fixed.tensor]);
  });

  it('gives results of its own where they are kept', () => {
    const a = new Cell(square(1));
    const exp = jit(() => [tf.exp(a.tensor), tf.exp(a.tensor), a.tensor], { state: [a] });
    const [want, same] = [Math.exp(a.tensor.dataSync()[7]!), a.tensor.dataSync()[7]!];
    for (let call = 0; call < 4; call++) {
      const results = exp();
      expect(results.map((t) => t.dataSync()[7]!)).toEqual(
        [Math.fround(want), Math.fround(want), same].map((x) => expect.closeTo(x, 6)),
      );
      results[0]!.dataSync().fill(0);
      tf.dispose(results);
    }
    exp.dispose();
    a.tensor.dispose();
  });

  it('is right in any program, whatever becomes of the state', () => {
    const before = tf.memory().numTensors;
    const COUNT = 3;
    // None lets numbers, or the rounding in them, grow.
    const OPS: ((a: tf.Tensor2D, b: tf.Tensor2D) => tf.Tensor)[] = [
      (a, b) => tf.mul(tf.add(a, b), 0.5),
      (a, b) => tf.mul(a, tf.mean(b, 1, true)),
      (a, b) => tf.tanh(tf.div(tf.matMul(a, b, false, true), WIDTH)),
      (a) => tf.softmax(a),
      (a) => tf.transpose(a),
      (a, b) => tf.concat([tf.slice(b, [5, 0]), tf.slice(a, [0, 0], [5, WIDTH])]),
      (a, b) => tf.maximum(a, b),
    ];
    const node = fc.record({ op: fc.nat(OPS.length - 1), a: fc.nat(), b: fc.nat() });
    const program = fc.record({
      nodes: fc.array(node, { minLength: 1, maxLength: 12 }),
      outputs: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
      /** Which cell takes which value at the end of the function, and which are replaced before each call. */
      written: fc.array(fc.record({ cell: fc.nat(COUNT - 1), value: fc.nat() }), { maxLength: 2 }),
      replaced: fc.array(fc.subarray([0, 1, 2]), { minLength: 5, maxLength: 5 }),
    });
    fc.assert(
      fc.property(program, ({ nodes, outputs, written, replaced }) => {
        const setting = () => {
          const cells = Array.from({ length: COUNT }, (_, i) => new Cell(square(i)));
          const fn = (x: tf.Tensor): tf.Tensor[] => {
            const values = [x as tf.Tensor2D, ...cells.map(({ tensor }) => tensor as tf.Tensor2D)];
            const at = (i: number): tf.Tensor2D => values[i % values.length]!;
            for (const { op, a, b } of nodes) values.push(OPS[op]!(at(a), at(b)) as tf.Tensor2D);
            const results = outputs.map((i) => tf.clone(at(i)));
            const after = written.map(({ cell, value }) => [cell, tf.clone(at(value))] as const);
            for (const [cell, tensor] of after) cells[cell]!.set(tensor);
            return results;
          };
          return { cells, fn };
        };
        const [eager, traced] = [setting(), setting()];
        const jitted = jit(traced.fn, { state: traced.cells });
        replaced.forEach((list, call) => {
          tf.tidy(() => {
            for (const { cells } of [eager, traced]) {
              for (const i of list) cells[i]!.set(square(10 * call + i));
            }
            const x = square(1000 + call);
            const [expected, actual] = [eager.fn(x), jitted(x)];
            const all = ({ cells }: typeof eager, results: tf.Tensor[]): tf.Tensor[] =>
              [...results, ...cells.map(({ tensor }) => tensor)].map((tensor) => tf.broadcastTo(tensor, x.shape));
            const error = tf.sub(tf.stack(all(eager, expected)), tf.stack(all(traced, actual)));
            expect(tf.max(tf.abs(error)).dataSync()[0]).toBeLessThan(1e-5);
          });
        });
        expect(jitted.traces).toBe(1);
        jitted.dispose();
        tf.dispose([...eager.cells, ...traced.cells].map(({ tensor }) => tensor));
      }),
      { numRuns: Number(process.env.FUZZ_RUNS ?? 100), seed: Number(process.env.FUZZ_SEED ?? 1), endOnFailure: true },
    );
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('kernels without a native form of their own', () => {
  const x = (): tf.Tensor => tf.tensor1d([-7.5, -3, -1e-4, 0, 1e-4, 2.5, 9]);
  const n = (): tf.Tensor => tf.tensor1d([-7, -3, -1, 0, 1, 2, 9], 'int32');
  const cases: [string, (a: tf.Tensor) => tf.Tensor | tf.Tensor[], () => tf.Tensor][] = [
    ['cast float to int', (a) => tf.cast(a, 'int32'), x],
    ['cast to the same', (a) => tf.cast(a, 'float32'), x],
    ['cast to bool and back', (a) => tf.cast(tf.cast(a, 'bool'), 'float32'), x],
    ['expm1', (a) => tf.expm1(a), x],
    ['log1p', (a) => tf.log1p(tf.abs(a)), x],
    ['tan', (a) => tf.tan(a), x],
    ['floorDiv of floats', (a) => tf.floorDiv(a, tf.scalar(2.5)), x],
    ['floorDiv of ints', (a) => tf.floorDiv(a, tf.tensor1d([2, -2, 3, 1, -5, 4, -4], 'int32')), n],
    ['mod of floats', (a) => tf.mod(a, tf.scalar(-2.5)), x],
    ['mod of ints', (a) => tf.mod(a, tf.tensor1d([2, -2, 3, 1, -5, 4, -4], 'int32')), n],
    ['pow of ints', (a) => tf.pow(a, tf.scalar(3, 'int32')), n],
    ['xor', (a) => tf.logicalXor(tf.greater(a, 0), tf.less(a, 2)), x],
    ['reverse of nothing', (a) => tf.reverse(tf.sum(a)), x],
    ['sum of a scalar', (a) => tf.sum(tf.sum(a)), x],
    ['small tile', (a) => tf.tile(a, [2]), x],
    ['stack of one', (a) => tf.stack([a], 1), x],
    ['strided slice of everything', (a) => tf.stridedSlice(a, [0], [7], [1]), x],
    ['pad of bools', (a) => tf.pad(tf.greater(a, 0), [[1, 2]]), x],
    ['where of bools', (a) => tf.where(tf.greater(a, 0), tf.less(a, 5), tf.less(a, -5)), x],
    ['oneHot', (a) => tf.oneHot(a as tf.Tensor1D, 5), n],
    ['zerosLike and onesLike', (a) => [tf.zerosLike(a), tf.onesLike(a)], x],
    ['cumsum, reversed', (a) => tf.cumsum(a, 0, true, true), x],
    ['max and argMax', (a) => [tf.max(a), tf.argMax(a)], x],
    ['topk', (a) => tf.topk(a as tf.Tensor1D, 3).values, x],
    ['split', (a) => tf.split(a, [2, 4, 1]), x],
    ['unstack', (a) => tf.unstack(a), x],
    ['reshape and slice', (a) => tf.slice(tf.reshape(tf.slice(a, 1, 6), [2, 3]), [0, 1], [2, 2]), x],
    ['gather', (a) => tf.gather(a, tf.tensor1d([3, 0, 0], 'int32')), x],
  ];
  it.each(cases)('%s', (_name, fn, make) => {
    const input = make();
    expectSame(fn as (...args: tf.Tensor[]) => tf.Tensor, input);
    input.dispose();
  });

  it.each([
    [[2, 3, 5], [2, 4], 1, 1],
    [[2, 3, 5], [2, 4], 2, 1],
    [[2, 3, 4, 5], [2, 3, 2], 2, 2],
  ])('gather of %j at %j along %i in batches of %i axes', (shape, at, axis, batchDims) => {
    const data = floats(shape);
    const indices = ints(at, 0, 2);
    expectSame((a, i) => tf.gather(a!, i!, axis, batchDims), data, indices);
    tf.dispose([data, indices]);
  });

  it('scatter and segment sum', () => {
    const rows = floats([6, 3]);
    const ids = tf.tensor1d([0, 2, 2, 1, 0, 5], 'int32');
    expectSame((a, i) => tf.unsortedSegmentSum(a!, i as tf.Tensor1D, 4), rows, ids);
    expectSame((a, i) => tf.scatterND(tf.reshape(i!, [6, 1]), a!, [7, 3]), rows, ids);
    tf.dispose([rows, ids]);
  });
});

describe('errors', () => {
  const numbers = (): [number, number] => [tf.memory().numTensors, (tf.backend() as OrtBackend).numDataIds()];
  /** Expect `fn` to fail under jit, and nothing to be left of it; then that jit still works. */
  function expectFailure(fn: (x: tf.Tensor) => unknown, message: RegExp, state: JitState[] = []): void {
    const x = floats([3]);
    const before = numbers();
    const failing = jit(fn, { state, name: 'failing' });
    for (let call = 0; call < 2; call++) expect(() => failing(x)).toThrow(message);
    failing.dispose();
    expect(numbers()).toEqual(before);
    expectSame((a) => tf.mul(a!, 2), x);
    x.dispose();
  }

  it('names the kernel whose values are read', () => {
    expectFailure((x) => tf.mul(x, tf.exp(x).dataSync()[0]!), /reads the values of float32\[3\] from Exp/);
    expectFailure((x) => tf.mul(x, x.dataSync()[0]!), /from argument 1/);
  });

  it('names a kernel without a form in ONNX', () => {
    expectFailure((x) => tf.atan2(x, x), /jit cannot trace Atan2 on float32\[3\], float32\[3\]/);
  });

  it('passes on what the function throws, with the state as it was', () => {
    const cell = new Cell(tf.scalar(1));
    expectFailure(
      () => {
        cell.set(tf.add(cell.tensor, 1));
        throw new Error('mine');
      },
      /mine/,
      [cell],
    );
    expect(cell.tensor.dataSync()[0]).toBe(1);
    cell.tensor.dispose();
  });

  it('refuses promises, other objects and disposed tensors', () => {
    expectFailure(async (x) => tf.add(x, 1), /returns a promise/);
    expectFailure((x) => new Set([tf.add(x, 1)]), /the result is a Set/);
    const add = jit((x: tf.Tensor) => tf.add(x, 1));
    const gone = tf.scalar(1);
    gone.dispose();
    expect(() => add(gone)).toThrow(/disposed/);
    expect(() => add(new Float32Array(2) as unknown as tf.Tensor)).toThrow(/arguments.0 is a Float32Array/);
  });

  it('says when a tensor is kept that will never have values', () => {
    let kept: tf.Tensor | undefined;
    const x = floats([3]);
    const keeping = jit((a: tf.Tensor) => {
      kept = tf.keep(tf.exp(a));
      return tf.add(a, 1);
    });
    expect(() => keeping(x)).toThrow(/keeps float32\[3\] from Exp.*declare what holds it as state/);
    expect(() => kept!.dataSync()).toThrow(/from Exp was made while jit traced a function and never had values/);
    tf.dispose([kept!, x]);
  });

  it('refuses to be differentiated from outside, and runs on its own backend only', async () => {
    const square = jit((x: tf.Tensor) => tf.square(x));
    const x = tf.scalar(2);
    expect(() => tf.grad((a: tf.Tensor) => square(a))(x)).toThrow(/take the gradient inside/);
    await tf.setBackend('cpu');
    expect(() => square(x)).toThrow(/runs on the 'ort' backend; the current one is 'cpu'/);
    x.dispose();
  });
});
