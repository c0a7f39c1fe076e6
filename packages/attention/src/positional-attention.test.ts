import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  ConfigError,
  gather,
  max,
  mul,
  Rng,
  ShapeError,
  setBackend,
  stateDict,
  sub,
  type Tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { identityPositions, PositionalAttention, positionsForLength } from './index.ts';

const rng = new Rng('positional attention');
const layer = (): PositionalAttention =>
  new PositionalAttention({ embedDim: 6, positionDim: 4, numHeads: 3, rng: rng.fork('layer') });
const x = (seed: number): Tensor => rng.fork(seed).normal([2, 5, 6]);
const positions = (): Tensor => rng.fork('positions').normal([5, 4]);
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

beforeAll(() => setBackend('cpu'));

describe('PositionalAttention', () => {
  it('has the published parameters, Xavier-uniform and zero', () => {
    const state = stateDict(layer());
    expect([...state].map(([name, { shape }]) => [name, shape])).toEqual([
      ['qk_proj.weight', [24, 4]],
      ['qk_proj.bias', [24]],
      ['v_proj.weight', [6, 6]],
      ['v_proj.bias', [6]],
      ['o_proj.weight', [6, 6]],
      ['o_proj.bias', [6]],
    ]);
    const largest = max(abs(state.get('qk_proj.weight') as Tensor)).dataSync()[0];
    expect(largest).toBeLessThanOrEqual(Math.sqrt(6 / 28));
    expect(largest).toBeGreaterThan(0.8 * Math.sqrt(6 / 28));
    expect(max(abs(state.get('qk_proj.bias') as Tensor)).dataSync()[0]).toBe(0);
    expect(state.get('v_proj.weight')?.dataSync()).toEqual(stateDict(layer()).get('v_proj.weight')?.dataSync());
  });

  it('weighs by positions alone: rows add up to one, any input sees the same', () => {
    const attention = layer();
    const weights = attention.weights(positions());
    expect(weights.shape).toEqual([3, 5, 5]);
    for (const row of (weights.arraySync() as number[][][]).flat()) {
      expect(row.reduce((sum, weight) => sum + weight)).toBeCloseTo(1, 5);
    }
    for (const seed of [1, 2]) {
      expect(furthest(attention.apply(x(seed), weights), attention.apply(x(seed), positions()))).toBe(0);
    }
    const order = tensor1d([1, 0], 'int32');
    const moved = attention.apply(gather(x(1), order), positions());
    expect(furthest(moved, gather(attention.apply(x(1), positions()), order))).toBe(0);
  });

  it('is linear in the tokens up to the biases', () => {
    const attention = layer();
    const twice = attention.apply(mul(x(1), 2), positions());
    expect(furthest(twice, mul(attention.apply(x(1), positions()), 2))).toBeLessThan(1e-5);
  });

  it('has right gradients of both orders in tokens and positions, and leaks nothing', () => {
    const attention = layer();
    gradCheck((x, positions) => attention.apply(x, positions), [x(1), positions()]);
    const [tokens, places] = [x(1), positions()];
    expectNoLeak(() => attention.apply(tokens, places));
    expectNoLeak(() => attention.weights(places));
  });

  it.each<[number[], number[]]>([
    [
      [2, 5, 6],
      [4, 4],
    ],
    [
      [2, 5, 6],
      [5, 3],
    ],
    [
      [2, 5, 6],
      [2, 5, 5],
    ],
    [
      [5, 6],
      [5, 4],
    ],
  ])('refuses tokens [%s] with [%s]', (tokens, routing) => {
    const [a, b] = [tokens, routing].map((shape) => rng.normal(shape as [number, number]));
    expect(() => layer().apply(a, b)).toThrow(ShapeError);
    expect(() => layer().apply(a, b)).toThrow(/positions \[T, 4\] or weights \[3, T, T\]/);
  });

  it.each<[object, RegExp]>([
    [{ embedDim: 7 }, /embedDim is 7; it must be a multiple of numHeads, 3/],
    [{ positionDim: 0 }, /positionDim is 0; it must be a whole number >= 1/],
    [{ numHeads: 1.5 }, /numHeads is 1.5/],
  ])('refuses %o', (options, message) => {
    const make = () => new PositionalAttention({ embedDim: 6, positionDim: 4, numHeads: 3, rng, ...options });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(message);
  });
});

describe('positions', () => {
  it('of a shorter input keep the scratch nodes', () => {
    const shorter = positionsForLength(identityPositions(6), 2, 1);
    expect(shorter.arraySync()).toEqual([
      [1, 0, 0, 0, 0, 0],
      [0, 1, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 1],
    ]);
    expect(positionsForLength(identityPositions(2), 2, 0).shape).toEqual([2, 2]);
    expect(() => positionsForLength(identityPositions(3), 3, 1)).toThrow(/n is 3; .* a table of 3/);
    expect(() => positionsForLength(identityPositions(3), 2, -1)).toThrow(/extra is -1/);
    expect(() => positionsForLength(tensor1d([1, 2]), 1, 0)).toThrow(/a table \[T, positionDim\], not \[2\]/);
    expect(() => identityPositions(0)).toThrow(/length is 0/);
    const base = identityPositions(6);
    expectNoLeak(() => positionsForLength(base, 2, 1));
  });
});
