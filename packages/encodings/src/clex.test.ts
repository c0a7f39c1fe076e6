import '@tensorflow/tfjs-backend-cpu';
import { attend } from '@ashlar/nn';
import {
  abs,
  add,
  ConfigError,
  disposeMap,
  lossAndGrads,
  max,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Clex, Rope } from './index.ts';

const DIM = 8;
const options = { headDim: DIM, originalLength: 4, maxFactor: 4, stepSize: 0.25, rng: new Rng(0) };

beforeAll(() => setBackend('cpu'));

const x = (seq: number): Tensor => new Rng(1).normal([1, 2, seq, DIM], { std: 0.5 });
const run = (encoding: PositionEncoding, seq: number): Tensor =>
  attend(x(seq), x(seq), x(seq), { encoding, causal: true });
const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

/** One whose `down` is not zero. */
function learned(): Clex {
  const clex = new Clex(options);
  clex.down.assign(new Rng(2).normal([DIM, DIM / 2], { std: 0.3 }));
  return clex;
}

describe('Clex', () => {
  it('is plain RoPE up to the trained length, and NTK-aware RoPE beyond it before training', () => {
    const clex = new Clex(options).eval();
    expect(distance(run(clex, 4), run(new Rope({ headDim: DIM }), 4))).toBeLessThan(1e-6);
    const ntk = new Rope({ headDim: DIM, scaling: { rope_type: 'ntk', factor: 2 * 3 - 1 } });
    expect(distance(run(clex, 12), run(ntk, 12))).toBeLessThan(1e-3);
    expect(distance(run(clex, 12), run(new Rope({ headDim: DIM }), 12))).toBeGreaterThan(1e-2);
  });

  it('computes in training what it looks up in eval mode, and looks up anew after a change of weights', () => {
    const clex = learned();
    const training = run(clex, 12);
    const evaluated = run(clex.eval(), 12);
    expect(distance(training, evaluated)).toBeLessThan(1e-4);
    clex.down.assign(tidy(() => add(clex.down.stored, 0.1)));
    expect(distance(run(clex, 12), evaluated)).toBeGreaterThan(1e-3);
    expect(distance(run(clex, 12), run(clex.train(), 12))).toBeLessThan(1e-4);
  });

  it('passes gradients to its weights, of both orders to its queries', () => {
    const clex = learned();
    const { loss, grads } = lossAndGrads(() => sum(square(run(clex, 8))), clex.trainableParameters());
    expect([...grads.keys()]).toEqual(['up', 'down']);
    for (const grad of grads.values()) expect(tidy(() => max(abs(grad)).dataSync()[0])).toBeGreaterThan(1e-5);
    loss.dispose();
    disposeMap(grads);
    gradCheck((x) => tidy(() => attend(x, x, x, { encoding: clex, causal: true })), [x(5)]);
    expectNoLeak(() => tidy(() => run(clex, 8)));
    run(clex.eval(), 8);
    expectNoLeak(() => tidy(() => run(clex, 8)));
  });

  it('has a right derivative in the frequencies', () => {
    const clex = learned();
    gradCheck((z) => clex.derivative(2.5, z), [new Rng(4).normal([DIM / 2])]);
  });

  it('spreads training positions over all of the scaled length', () => {
    const clex = new Clex(options);
    const positions = clex.trainingPositions(4, 3, new Rng(5)).dataSync();
    expect([positions[0], positions[3]]).toEqual([0, 11]);
    for (let i = 1; i < 4; i++) expect(positions[i]).toBeGreaterThan(positions[i - 1]);
    expect(clex.trainingPositions(4, 3, new Rng(5)).dataSync()).toEqual(positions);
    // Twice the trained length: half steps.
    expect(clex.trainingPositions(8, 2, new Rng(6)).dataSync()[7]).toBe(7);
  });

  it('scales queries by the logarithm of the length on request', () => {
    const plain = new Clex(options).eval();
    const scaled = new Clex({ ...options, logScale: true }).eval();
    // Four keys are the trained length.
    expect(distance(run(plain, 4), run(scaled, 4))).toBeLessThan(1e-6);
    expect(distance(run(plain, 16), run(scaled, 16))).toBeGreaterThan(1e-3);
  });

  it('pairs neighbouring channels on request', () => {
    const rope = new Rope({ headDim: DIM, layout: 'interleaved' });
    expect(distance(run(new Clex({ ...options, layout: 'interleaved' }), 4), run(rope, 4))).toBeLessThan(1e-6);
  });

  it('caps the scale', () => {
    const clex = new Clex(options);
    expect([1, 4, 5, 16, 17, 1000].map((length) => clex.factorFor(length))).toEqual([1, 1, 2, 4, 4, 4]);
  });

  it('names what is wrong with an option', () => {
    const make = (change: object) => () => new Clex({ ...options, ...change });
    expect(make({ headDim: 7 })).toThrow(ShapeError);
    expect(make({ headDim: 2 })).toThrow(/headDim is 2/);
    expect(make({ maxFactor: 1.5 })).toThrow(/maxFactor is 1.5/);
    expect(make({ stepSize: 0 })).toThrow(/stepSize is 0/);
    expect(make({ activation: 'relu' })).toThrow(/activation is "relu"/);
    expect(make({ originalLength: 0 })).toThrow(ConfigError);
    const clex = new Clex(options);
    expect(() => {
      clex.factor = 5;
    }).toThrow(/factor is 5; it must be a whole number from 1 to 4/);
    expect(() => clex.trainingPositions(1, 2, new Rng(0))).toThrow(/length is 1/);
    expect(() => clex.frequencies([2, 3])).toThrow(/begin with 1/);
  });
});
