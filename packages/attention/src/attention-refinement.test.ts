import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import {
  abs,
  ConfigError,
  concat,
  disposeMap,
  jit,
  lossAndGrads,
  max,
  moduleState,
  mul,
  ones,
  Rng,
  reshape,
  ShapeError,
  setBackend,
  slice,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor2d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { AttentionRefinement, keepSteps } from './index.ts';

const rng = new Rng('refinement');
const make = (): AttentionRefinement => new AttentionRefinement({ heads: 2, channels: 3, rng: rng.fork('module') });
const attention = (name: string, batch = 2): Tensor => rng.fork(name).uniform([batch, 2, 4, 6]) as Tensor;
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const padding = (): Tensor => tensor2d([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1], [2, 6]);

beforeAll(() => setBackend('cpu'));

describe('AttentionRefinement', () => {
  it('has the published parameters and buffers', () => {
    expect([...stateDict(make())].map(([name, { shape }]) => [name, shape])).toEqual([
      ['conv.weight', [3, 4, 5, 5]],
      ['conv.bias', [3]],
      ['proj.weight', [2, 3, 1, 1]],
      ['post_norm.bn.weight', [2]],
      ['post_norm.bn.bias', [2]],
      ['post_norm.bn.running_mean', [2]],
      ['post_norm.bn.running_var', [2]],
    ]);
  });

  it('looks at earlier steps alone', () => {
    const module = make().eval();
    const [previous, current] = [attention('p'), attention('c')];
    const last = (x: Tensor): Tensor => concat([slice(x, [0, 0, 0, 0], [-1, -1, 3, -1]), zeros([2, 2, 1, 6])], 2);
    const out = module.apply(previous, current, { height: 2 });
    expect(furthest(module.apply(last(previous), last(current), { height: 2 }), out)).toBe(0);
    const first = slice(out, [0, 0, 0, 0], [1, 1, 1, -1]).dataSync();
    const second = slice(out, [0, 0, 1, 0], [1, 1, 1, -1]).dataSync();
    expect(first).not.toEqual(second);
  });

  it('with every step kept is CoMER; a step that is not kept covers nothing', () => {
    const module = make().eval();
    const [previous, current] = [attention('p'), attention('c')];
    const refine = (keep?: Tensor, blank?: Tensor): Tensor =>
      module.apply(blank ? mul(previous, blank) : previous, blank ? mul(current, blank) : current, { height: 3, keep });
    expect(furthest(refine(ones([2, 4])), refine())).toBe(0);
    const keep = tensor2d([1, 0, 1, 1, 1, 1, 0, 1], [2, 4]);
    expect(furthest(refine(keep), refine(undefined, reshape(keep, [2, 1, 4, 1])))).toBe(0);
    expect(furthest(refine(keep), refine())).toBeGreaterThan(1e-4);
  });

  it('normalises over valid cells: rows that are all padding change nothing', () => {
    const input = (x: Tensor): Tensor => concat([x, attention('other')], 0);
    const pads = concat([padding(), ones([2, 6])], 0);
    const [alone, joined] = [make(), make()];
    const out = alone.apply(attention('p'), attention('c'), { height: 2, padding: padding() });
    const more = joined.apply(input(attention('p')), input(attention('c')), { height: 2, padding: pads });
    expect(furthest(slice(more, [0, 0, 0, 0], [2, -1, -1, -1]), out)).toBeLessThan(1e-5);
    expect(max(abs(slice(more, [2, 0, 0, 0], [-1, -1, -1, -1]))).dataSync()[0]).toBe(0);
    expect(furthest(alone.post_norm.bn.running_var.stored, joined.post_norm.bn.running_var.stored)).toBeLessThan(1e-6);
    const heads = slice(out, [0, 0, 0, 0], [1, 1, -1, -1]).dataSync();
    expect(heads.every(Number.isFinite)).toBe(true);
    const all = joined.apply(attention('p'), attention('c'), { height: 2, padding: ones([2, 6]) });
    expect(max(abs(all)).dataSync()[0]).toBe(0);
  });

  it('keeps running statistics in training and uses them in evaluation', () => {
    const module = make();
    const { running_mean, running_var } = module.post_norm.bn;
    const input = { height: 2, padding: padding() };
    const trained = module.apply(attention('p'), attention('c'), input);
    const [mean] = running_mean.stored.dataSync();
    expect(mean).not.toBe(0);
    for (let i = 0; i < 200; i++) module.apply(attention('p'), attention('c'), input).dispose();
    // 0.9^200 of the start is left; the variance in use is the biased one of 40 cells, the running one not.
    expect(running_mean.stored.dataSync()[0]).toBeCloseTo(10 * mean, 4);
    module.eval();
    const before = running_var.stored.dataSync();
    expect(furthest(module.apply(attention('p'), attention('c'), input), trained)).toBeLessThan(0.05);
    expect(running_var.stored.dataSync()).toEqual(before);
  });

  it.each([true, false])('has right gradients of both orders (training %s), and leaks nothing', (training) => {
    const module = make().train(training);
    const keep = tensor2d([1, 0, 1, 1], [1, 4]);
    const pads = tensor2d([0, 0, 1, 0, 0, 1], [1, 6]);
    const input = { height: 2, padding: pads, keep };
    gradCheck((p, c) => module.apply(p, c, input), [attention('p', 1), attention('c', 1)], {
      eps: 1 / 512,
      order: training ? 1 : 2,
      atol: 2e-3,
    });
    const [p, c] = [attention('p', 1), attention('c', 1)];
    expectNoLeak(() => module.apply(p, c, input));
    expectNoLeak(() => {
      const { loss, grads } = lossAndGrads(() => sum(square(module.apply(p, c, input))), module.trainableParameters());
      loss.dispose();
      disposeMap(grads);
    });
  });

  it('is the same under jit, running statistics too', async () => {
    await setBackend('ort');
    const [traced, eager] = [make(), make()];
    const step = jit((p: Tensor, c: Tensor) => traced.apply(p, c, { height: 2, padding: padding() }) as Tensor, {
      state: [moduleState(traced)],
    });
    for (const name of ['a', 'b']) {
      const expected = eager.apply(attention(name), attention('c'), { height: 2, padding: padding() });
      expect(furthest(step(attention(name), attention('c')), expected)).toBeLessThan(1e-4);
    }
    expect(step.traces).toBe(1);
    expect(furthest(traced.post_norm.bn.running_var.stored, eager.post_norm.bn.running_var.stored)).toBeLessThan(1e-5);
    step.dispose();
    await setBackend('cpu');
  });

  it('refuses what does not fit', () => {
    const run =
      (input: object, previous = attention('p')) =>
      () =>
        make().apply(previous, attention('c'), { height: 2, ...input });
    expect(run({ height: 4 })).toThrow(ShapeError);
    expect(run({ height: 4 })).toThrow(/a height that divides the cells; .* and 4\./);
    for (const height of [-2, 0, 0.5, undefined]) expect(run({ height })).toThrow(ShapeError);
    expect(run({ padding: zeros([2, 5]) })).toThrow(ShapeError);
    expect(run({ keep: zeros([4, 2]) })).toThrow(ShapeError);
    expect(run({}, attention('p', 1))).toThrow(ShapeError);
    expect(() => new AttentionRefinement({ heads: 0, rng })).toThrow(ConfigError);
    expect(() => new AttentionRefinement({ heads: 2, channels: 0, rng })).toThrow(/channels is 0/);
  });
});

describe('keepSteps', () => {
  it('drops the steps whose input has no ink', () => {
    const tokens = tensor2d([1, 104, 82, 110, 15, 2, 112, 83], [2, 4], 'int32');
    expect(keepSteps(tokens, [82, 83, 110]).arraySync()).toEqual([
      [1, 1, 0, 0],
      [1, 1, 1, 0],
    ]);
    expect(keepSteps(tokens, []).dataSync()).toEqual(new Float32Array(8).fill(1));
    expectNoLeak(() => keepSteps(tokens, [82, 83]));
  });
});
