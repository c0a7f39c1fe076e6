import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  type GradientTransformation,
  memory,
  Parameter,
  Rng,
  scalar,
  setBackend,
  tensor,
  tidy,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { adam, adamw, Optimizer, scaleByAdam, sgd } from './index.ts';
import { type ReferenceStep, referenceAdam, referenceSgd } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const SIZE = 12;

/** Runs both over the same gradients and gives the largest difference relative to the largest parameter. */
function largestDifference(transformation: GradientTransformation, reference: ReferenceStep, steps: number): number {
  const rng = new Rng(1);
  const parameter = new Parameter(tensor(rng.normalArray(SIZE)));
  let expected = Array.from(parameter.stored.dataSync());
  const optimizer = new Optimizer(new Map([['w', parameter]]), transformation);
  for (let step = 0; step < steps; step++) {
    const g = rng.normalArray(SIZE).map((value, i) => value * 10 ** ((i % 4) - 2));
    expected = reference(expected, Array.from(g));
    const gradient = tensor(g);
    optimizer.step(new Map([['w', gradient]]));
    gradient.dispose();
  }
  const actual = parameter.stored.dataSync();
  optimizer.dispose();
  parameter.dispose();
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]))) / largest;
}

describe('against the float64 update rules of PyTorch, 50 steps', () => {
  it.each([
    { momentum: 0, nesterov: false, weightDecay: 0 },
    { momentum: 0.9, nesterov: false, weightDecay: 0 },
    { momentum: 0.9, nesterov: true, weightDecay: 0.05 },
    { momentum: 0, nesterov: false, weightDecay: 0.1 },
  ])('sgd %j', (options) => {
    const difference = largestDifference(
      sgd({ learningRate: 0.03, ...options }),
      referenceSgd({ lr: 0.03, ...options }),
      50,
    );
    expect(difference).toBeLessThan(1e-6);
  });

  it.each([
    { b1: 0.9, b2: 0.999, eps: 1e-8, weightDecay: 0 },
    { b1: 0.9, b2: 0.95, eps: 1e-6, weightDecay: 0.1 },
    { b1: 0, b2: 0.9, eps: 1e-3, weightDecay: 0.5 },
  ])('adam and adamw %j', (options) => {
    const reference = { lr: 0.02, ...options };
    expect(
      largestDifference(
        adam({ learningRate: 0.02, ...options }),
        referenceAdam({ ...reference, decoupled: false }),
        50,
      ),
    ).toBeLessThan(1e-6);
    expect(
      largestDifference(
        adamw({ learningRate: 0.02, ...options }),
        referenceAdam({ ...reference, decoupled: true }),
        50,
      ),
    ).toBeLessThan(1e-6);
  });

  it('adamw has the defaults of PyTorch', () => {
    const reference = { lr: 1e-2, b1: 0.9, b2: 0.999, eps: 1e-8, weightDecay: 0.01, decoupled: true };
    expect(largestDifference(adamw({ learningRate: 1e-2 }), referenceAdam(reference), 50)).toBeLessThan(1e-6);
  });
});

describe('closed forms under a constant gradient', () => {
  const run = (transformation: GradientTransformation, g: number, steps: number, start = 1): number => {
    const parameter = new Parameter(scalar(start));
    const optimizer = new Optimizer(new Map([['w', parameter]]), transformation);
    const gradient = scalar(g);
    for (let step = 0; step < steps; step++) optimizer.step(new Map([['w', gradient]]));
    const value = parameter.stored.dataSync()[0];
    optimizer.dispose();
    parameter.dispose();
    gradient.dispose();
    return value;
  };

  it('adam moves by the learning rate times the sign, whatever the scale of the gradient', () => {
    for (const g of [1e-4, -3, 1e4]) {
      expect(run(adam({ learningRate: 1e-3 }), g, 50, 0)).toBeCloseTo(-50e-3 * (g / (Math.abs(g) + 1e-8)), 7);
    }
  });

  it('adamw without a gradient only decays', () => {
    expect(run(adamw({ learningRate: 0.1, weightDecay: 0.2 }), 0, 50)).toBeCloseTo((1 - 0.1 * 0.2) ** 50, 6);
  });

  it('sgd with momentum sums a geometric series', () => {
    let [velocity, expected] = [0, 1];
    for (let t = 1; t <= 50; t++) {
      velocity = (1 - 0.9 ** t) / (1 - 0.9);
      expected -= 0.01 * 0.5 * velocity;
    }
    expect(run(sgd({ learningRate: 0.01, momentum: 0.9 }), 0.5, 50)).toBeCloseTo(expected, 5);
  });
});

describe('scaleByAdam', () => {
  it.each([1, 2, 10, 1e3, 1e5, 1e7])('corrects the bias to float32 rounding at step %d', (t) => {
    const [b1, b2, g] = [0.9, 0.999, 0.7];
    const update = tidy(() => {
      const zeros = (): Map<string, ReturnType<typeof scalar>> => new Map([['w', scalar(0)]]);
      const state = { count: scalar(t - 1), mu: zeros(), nu: zeros() };
      return scaleByAdam({ eps: 0 })
        .update(new Map([['w', scalar(g)]]), state, zeros())
        .updates.get('w')
        ?.dataSync()[0];
    });
    const expected = (1 - b1) / -Math.expm1(t * Math.log(b1)) / Math.sqrt((1 - b2) / -Math.expm1(t * Math.log(b2)));
    expect(Math.abs((update ?? Number.NaN) / expected - 1)).toBeLessThan(5e-7);
  });
});

describe('options', () => {
  it('are named in the error, with what they were and may be', () => {
    expect(() => adamw({ learningRate: -1 })).toThrow(ConfigError);
    expect(() => adamw({ learningRate: -1 })).toThrow('learningRate is -1; it must be a finite number >= 0.');
    expect(() => adam({ learningRate: 1, b1: 1 })).toThrow('b1 is 1; it must be a finite number >= 0 and < 1.');
    expect(() => adam({ learningRate: 1, b2: Number.NaN })).toThrow(/b2 is NaN/);
    expect(() => adam({ learningRate: 1, eps: -1 })).toThrow(/eps is -1/);
    expect(() => sgd({ learningRate: 1, weightDecay: -0.1 })).toThrow(/weightDecay is -0.1/);
    expect(() => sgd({ learningRate: 1, nesterov: true })).toThrow(/momentum \(with nesterov\) is 0/);
    expect(() => sgd({ learningRate: '1' as unknown as number })).toThrow(/learningRate is "1"; it must be a finite/);
  });
});

describe('memory', () => {
  it('is where it was after 100 steps', () => {
    const before = memory().numTensors;
    expect(largestDifference(adamw({ learningRate: 0.1 }), (p) => p, 100)).toBeGreaterThan(0);
    expect(memory().numTensors).toBe(before);
  });
});
