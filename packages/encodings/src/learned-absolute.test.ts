import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  disposeMap,
  lossAndGrads,
  memory,
  Rng,
  setBackend,
  square,
  stateDict,
  sum,
  tensor1d,
  tensor2d,
} from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { LearnedAbsolute } from './learned-absolute.ts';

beforeAll(() => setBackend('cpu'));

describe('LearnedAbsolute', () => {
  it('looks positions up, repeated and offset ones too', () => {
    const encoding = new LearnedAbsolute({ maxPositions: 3, dim: 2, rng: new Rng(0) });
    expect([...stateDict(encoding).keys()]).toEqual(['weight']);
    encoding.weight.assign(
      tensor2d([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    );
    expect(encoding.embed(tensor1d([2, 0, 2], 'int32')).arraySync()).toEqual([
      [5, 6],
      [1, 2],
      [5, 6],
    ]);
    expect(encoding.apply(tensor1d([1])).arraySync()).toEqual([[3, 4]]);
    const positions = tensor1d([0, 1], 'int32');
    expectNoLeak(() => encoding.embed(positions));
    encoding.dispose();
  });

  it('trains the rows that were used', () => {
    const encoding = new LearnedAbsolute({ maxPositions: 3, dim: 1, rng: new Rng(0) });
    encoding.weight.assign(tensor2d([[1], [2], [3]]));
    const positions = tensor1d([1, 1, 0], 'int32');
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(() => sum(square(encoding.embed(positions))), encoding.trainableParameters());
    expect(loss.arraySync()).toBe(9);
    expect(grads.get('weight')?.arraySync()).toEqual([[2], [8], [0]]);
    loss.dispose();
    disposeMap(grads);
    expect(memory().numTensors).toBe(before);
  });

  it('starts from the same seeded table each time', () => {
    const table = (): Float32Array =>
      new LearnedAbsolute({ maxPositions: 50, dim: 20, rng: new Rng(7), std: 0.1 }).weight.stored.dataSync<'float32'>();
    expect(table()).toEqual(table());
    expect(Math.hypot(...table()) / Math.sqrt(1000)).toBeCloseTo(0.1, 2);
  });

  it('refuses positions that its table does not have', () => {
    const encoding = new LearnedAbsolute({ maxPositions: 3, dim: 2, rng: new Rng(0) });
    expect(() => encoding.embed(tensor1d([0, 3], 'int32'))).toThrow(ConfigError);
    expect(() => encoding.embed(tensor1d([0, 3], 'int32'))).toThrow(/position 3 is outside the table of 3/);
    expect(() => encoding.embed(tensor1d([-1], 'int32'))).toThrow(/positions from 0, not -1/);
    expect(() => encoding.embed(tensor1d([0.5]))).toThrow(/whole positions, not 0.5/);
    expect(() => encoding.embed(tensor1d([Number.NaN]))).toThrow(/finite positions, not NaN/);
    expect(() => new LearnedAbsolute({ maxPositions: 0, dim: 2, rng: new Rng(0) })).toThrow(/maxPositions is 0/);
  });
});
