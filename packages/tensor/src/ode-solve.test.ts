import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, mul, neg, odeSolve, setBackend, type Tensor, tensor1d } from './index.ts';
import { expectNoLeak, gradCheck } from './testing/index.ts';

beforeAll(() => setBackend('cpu'));

describe('odeSolve', () => {
  const decay = (_: number, y: Tensor): Tensor => neg(y);

  it('follows an exponential at times on the grid, and a line between grid points', () => {
    const found = odeSolve(decay, tensor1d([1, 2]), [0, 0.3, 1, 1.25], { stepSize: 0.1 }).arraySync() as number[][];
    for (const [i, t] of [0, 0.3, 1].entries()) {
      expect(found[i][0]).toBeCloseTo(Math.exp(-t), 5);
      expect(found[i][1]).toBeCloseTo(2 * Math.exp(-t), 5);
    }
    expect(found[3][0]).toBeCloseTo(Math.exp(-1.25), 5);
    const between = odeSolve(decay, tensor1d([1]), [0, 0.25, 1], { stepSize: 0.5 }).dataSync()[1];
    expect(between).toBeCloseTo((1 + Math.exp(-0.5)) / 2, 3);
  });

  it('is of fourth order', () => {
    // dy/dt = 4 t y, whose solution is exp(2 t²).
    const error = (stepSize: number): number =>
      Math.abs(odeSolve((t, y) => mul(y, 4 * t), tensor1d([1]), [0, 1], { stepSize }).dataSync()[1] - Math.exp(2));
    expect(error(0.25) / error(0.125)).toBeGreaterThan(10);
  });

  it('has right gradients through the steps, and leaks nothing', () => {
    const solve = (y0: Tensor, rate: Tensor): Tensor =>
      odeSolve((t, y) => mul(mul(y, rate), t), y0, [0, 0.3, 0.8], { stepSize: 0.25 });
    const inputs = [tensor1d([0.5, -1]), tensor1d([0.7, 0.2])];
    gradCheck(solve as (...xs: Tensor[]) => Tensor, inputs);
    expectNoLeak(() => solve(inputs[0], inputs[1]));
  });

  it('refuses times that do not rise and steps that are none', () => {
    const y = tensor1d([1]);
    expect(() => odeSolve(decay, y, [0, 0], { stepSize: 0.1 })).toThrow(ConfigError);
    expect(() => odeSolve(decay, y, [], { stepSize: 0.1 })).toThrow(/times are \[\]/);
    expect(() => odeSolve(decay, y, [0, Number.NaN], { stepSize: 0.1 })).toThrow(ConfigError);
    expect(() => odeSolve(decay, y, [0, 1], { stepSize: 0 })).toThrow(/stepSize is 0/);
  });
});
