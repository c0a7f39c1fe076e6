import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import {
  abs,
  ConfigError,
  disposeMap,
  lossAndGrads,
  max,
  Rng,
  ShapeError,
  setBackend,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { PositionalScores } from './index.ts';

const rng = new Rng('positional scores');
const make = (): PositionalScores =>
  new PositionalScores({ maxPositions: 6, heads: 4, dim: 3, layers: 2, rng: rng.fork('tables') });
const [q, k, v] = ['q', 'k', 'v'].map((name) => (): Tensor => rng.fork(name).normal([2, name === 'q' ? 4 : 2, 5, 8]));
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

beforeAll(() => setBackend('cpu'));

describe('PositionalScores', () => {
  it('weighs by the positions alone, in each layer by its own table', () => {
    const encoding = make();
    expect([...stateDict(encoding)].map(([name, { shape }]) => [name, shape])).toEqual([
      ['layers.0.weight', [6, 24]],
      ['layers.1.weight', [6, 24]],
    ]);
    const run = (q: Tensor, k: Tensor, layer = 0): Tensor => attend(q, k, v(), { encoding, layer, causal: true });
    const other = rng.fork('other').normal([2, 4, 5, 8]);
    expect(furthest(run(q(), k()), run(other, k()))).toBe(0);
    expect(furthest(run(q(), k()), run(q(), k(), 1))).toBeGreaterThan(1e-2);
    expect(furthest(run(q(), k()), attend(q(), k(), v(), { encoding: make(), causal: true }))).toBe(0);
  });

  it('is q . k / sqrt(dim) of the rows', () => {
    const encoding = make();
    const table = encoding.layers[1].weight.stored.arraySync() as number[][];
    const logits = encoding.scores(q(), q(), tensor1d([4, 0, 4, 1, 2], 'int32'), tensor1d([5]), { layer: 1 });
    const [head, dim] = [2, 3];
    const query = table[4].slice(head * 2 * dim, head * 2 * dim + dim);
    const key = table[5].slice(head * 2 * dim + dim, (head + 1) * 2 * dim);
    const expected = query.reduce((sum, value, i) => sum + value * key[i], 0) / Math.sqrt(dim);
    expect(logits.shape).toEqual([2, 4, 5, 1]);
    const values = logits.arraySync() as number[][][][];
    for (const i of [0, 2]) expect(values[1][head][i][0]).toBeCloseTo(expected, 5);
  });

  it('learns its tables, and leaks nothing', () => {
    const encoding = make();
    const [a, b, c] = [q(), k(), v()];
    expectNoLeak(() => attend(a, b, c, { encoding }));
    const run = () => lossAndGrads(() => sum(square(attend(a, b, c, { encoding }))), encoding.trainableParameters());
    const { grads } = run();
    expect(max(abs(grads.get('layers.0.weight') as Tensor)).dataSync()[0]).toBeGreaterThan(1e-3);
    expect(max(abs(grads.get('layers.1.weight') as Tensor)).dataSync()[0]).toBe(0);
    expectNoLeak(() => {
      const { loss, grads } = run();
      loss.dispose();
      disposeMap(grads);
    });
    const table = encoding.layers[0].weight;
    gradCheck(
      (weight) => {
        const other = make();
        other.layers[0].weight.exchange(weight).dispose();
        return attend(a, b, c, { encoding: other });
      },
      [table.stored],
    );
  });

  it('refuses positions that its tables do not have', () => {
    const at =
      (positions: Tensor, layer = 0) =>
      () =>
        make().scores(q(), k(), positions, positions, { layer });
    expect(at(tensor1d([0, 6], 'int32'))).toThrow(/position 6 is outside the tables of 6/);
    expect(at(tensor1d([-1], 'int32'))).toThrow(ConfigError);
    expect(at(tensor1d([0.5]))).toThrow(/whole positions, not 0.5/);
    expect(at(tensor1d([0], 'int32'), 2)).toThrow(/layers is 2; the model asks for layer 2/);
    expect(() => make().scores(k(), k(), tensor1d([0]), tensor1d([0]), { layer: 0 })).toThrow(ShapeError);
    expect(() => new PositionalScores({ maxPositions: 6, heads: 4, dim: 0, layers: 1, rng })).toThrow(/dim is 0/);
  });
});
