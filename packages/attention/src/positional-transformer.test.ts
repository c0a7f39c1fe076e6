import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import { Alibi, Nope, PositionalScores, Rope, Sinusoidal } from '@ashlar/encodings';
import {
  abs,
  ConfigError,
  disposeMap,
  jit,
  lossAndGrads,
  max,
  mean,
  moduleState,
  mul,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  square,
  sub,
  type Tensor,
  tidy,
  zerosLike,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { identityPositions, PositionalTransformer, type PositionalTransformerOptions } from './index.ts';

const rng = new Rng('positional transformer');
const make = (options: Partial<PositionalTransformerOptions> = {}): PositionalTransformer =>
  new PositionalTransformer({
    inputDim: 1,
    embedDim: 8,
    outputDim: 1,
    numHeads: 2,
    numLayers: 2,
    mlpHidden: 6,
    positionDim: 5,
    rng: rng.fork('model'),
    ...options,
  });
const x = (): Tensor => rng.fork('x').normal([3, 5, 1]);
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

beforeAll(() => setBackend('cpu'));

describe('PositionalTransformer', () => {
  it('runs on cached weights as on positions', () => {
    const model = make();
    const positions = identityPositions(5);
    const weights = model.cacheWeights(positions);
    expect(weights.map(({ shape }) => shape)).toEqual([
      [2, 5, 5],
      [2, 5, 5],
    ]);
    expect(furthest(model.apply(x(), weights), model.apply(x(), positions))).toBe(0);
    const input = x();
    expectNoLeak(() => model.apply(input, weights));
    expectNoLeak(() => model.cacheWeights(positions));
  });

  it('scales with its input, as the baseline does not', () => {
    const out = (model: PositionalTransformer, scale: number): Tensor => {
      for (const [name, parameter] of model.namedParameters()) {
        // Without biases on the way of the values every hidden unit is homogeneous.
        if (name.endsWith('bias') && !name.includes('qk_proj')) parameter.assign(zerosLike(parameter.stored));
      }
      return model.apply(mul(x(), scale), identityPositions(5));
    };
    expect(furthest(out(make(), 16), mul(out(make(), 1), 16))).toBeLessThan(1e-5);
    const baseline = make({ positional: false });
    expect(furthest(out(baseline, 16), mul(out(baseline, 1), 16))).toBeGreaterThan(1e-2);
  });

  it.each([
    ['positional', { mlpLayers: 3 }],
    ['standard', { positional: false }],
    ['standard with RoPE', { positional: false, encoding: new Rope({ headDim: 8 }) }],
  ])('%s: right gradients, the same from one seed, the same under jit', async (_, options) => {
    const model = make(options);
    const positions = rng.fork('positions').normal([5, 5]);
    gradCheck((x, positions) => model.apply(x, positions), [x(), positions], { order: 1, eps: 1 / 256 });
    expect(furthest(model.apply(x(), positions), make(options).apply(x(), positions))).toBe(0);
    await setBackend('ort');
    const same = make(options);
    const forward = jit((x: Tensor) => same.apply(x, identityPositions(5)) as Tensor, { state: [moduleState(same)] });
    const eager = same.apply(x(), identityPositions(5));
    expect(furthest(forward(x()), eager)).toBeLessThan(1e-5);
    forward.dispose();
    await setBackend('cpu');
  });

  it('trains every parameter but leaks nothing', () => {
    const model = make({ numLayers: 1 });
    const [input, positions] = [x(), identityPositions(5)];
    const parameters = model.trainableParameters();
    const run = () => lossAndGrads(() => mean(square(model.apply(input, positions))), parameters);
    const { grads } = run();
    for (const [name, grad] of grads) {
      if (!name.endsWith('qk_proj.bias')) expect(max(abs(grad)).dataSync()[0], name).toBeGreaterThan(0);
    }
    expectNoLeak(() => {
      const { loss, grads } = run();
      loss.dispose();
      disposeMap(grads);
    });
  });

  it('places the nodes of the baseline by an encoding of any kind', () => {
    const out = (encoding?: PositionEncoding): Tensor =>
      make({ positional: false, encoding }).apply(x(), identityPositions(5));
    const plain = out();
    const scores = { maxPositions: 5, heads: 2, dim: 4, layers: 2, rng: rng.fork('scores') };
    for (const encoding of [
      new Sinusoidal({ dim: 8 }),
      new Rope({ headDim: 8 }),
      new Alibi({ heads: 2 }),
      new PositionalScores(scores),
    ]) {
      expect(furthest(out(encoding), plain)).toBeGreaterThan(1e-5);
    }
    expect(furthest(out(new Nope()), plain)).toBe(0);
    expect(() => out(new Sinusoidal({ dim: 4 }))).toThrow(
      /PositionalTransformer: its encoding adds \[5,4\] to tokens \[seq, width\] of \[5,8\]/,
    );
  });

  it('refuses what does not fit', () => {
    const positions = identityPositions(5);
    expect(() => make().apply(rng.normal([3, 5, 2]), positions)).toThrow(ShapeError);
    expect(() => make().apply(x(), identityPositions(4))).toThrow(/positions \[T, 5\]/);
    const baseline = make({ positional: false });
    expect(() => baseline.apply(x(), identityPositions(4))).toThrow(/5 nodes need positions \[5, 5\], not \[4,4\]/);
    expect(() => baseline.apply(x(), make().cacheWeights(positions))).toThrow(/positional: false; give it positions/);
    expect(() => baseline.cacheWeights(positions)).toThrow(/depends on the input/);
    expect(() => make({ encoding: new Rope({ headDim: 8 }) })).toThrow(ConfigError);
    expect(() => make({ positional: false, encoding: 'rope' as never })).toThrow(/encoding is "rope"/);
    expect(() => make({ positional: 'no' as never })).toThrow(/positional is "no"/);
    expect(() => make().apply(x(), make().cacheWeights(positions).slice(1))).toThrow(/weights for its 2 layers, not 1/);
    expect(() => make().apply(x(), undefined as never)).toThrow(ShapeError);
    expect(() => make({ numLayers: 0 })).toThrow(/numLayers is 0/);
    expect(() => make({ mlpLayers: 0 })).toThrow(/mlpLayers is 0/);
    expect(() => make({ numHeads: 3 })).toThrow(/embedDim is 8; it must be a multiple of numHeads, 3/);
  });
});
