import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import { Alibi, Nope, Rope, SelfExtend, Sinusoidal } from '@ashlar/encodings';
import { adam, Optimizer } from '@ashlar/optim';
import {
  abs,
  cast,
  concat,
  disposeMap,
  grads,
  jit,
  lossAndGrads,
  max,
  moduleState,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  slice,
  sub,
  type Tensor,
  tensor2d,
  tensor3d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { CoverageDecoder, PositionDecoder, posformerLoss, SymbolDecoder } from './index.ts';

const rng = new Rng('posformer');
const options = {
  dim: 8,
  heads: 2,
  layers: 2,
  hidden: 12,
  channels: 3,
  dropout: 0,
  encoding: new Sinusoidal({ dim: 8, layout: 'interleaved' }),
  structuralTokens: [3, 4],
  rng: rng.fork('model'),
} as const;
const symbols = (more: object = {}): SymbolDecoder => new SymbolDecoder({ ...options, vocabSize: 9, ...more });
const tokens = (): Tensor => tensor2d([1, 5, 3, 4, 6, 0, 2, 6, 4, 3, 5, 7], [2, 6], 'int32');
const targets = (): Tensor => tensor2d([5, 3, 4, 6, 2, 0, 6, 4, 3, 5, 7, 1], [2, 6], 'int32');
const features = (): Tensor => rng.fork('features').normal([2, 2, 3, 8]);
const padding = (): Tensor => tensor3d([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1], [2, 2, 3]);
const image = (): { features: Tensor; padding: Tensor } => ({ features: features(), padding: padding() });
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

beforeAll(() => setBackend('cpu'));

describe('SymbolDecoder', () => {
  it('is causal, and does not look at padded cells', () => {
    const model = symbols().eval();
    const { logits, attention } = model.apply(tokens(), image());
    expect([logits.shape, attention.shape]).toEqual([
      [2, 6, 9],
      [2, 2, 6, 6],
    ]);
    const shorter = model.apply(slice(tokens(), [0, 0], [-1, 4]), image());
    expect(furthest(shorter.logits, slice(logits, [0, 0, 0], [-1, 4, -1]))).toBeLessThan(1e-5);
    const padded = attention.arraySync() as number[][][][];
    expect(padded[1].flat().every((cells) => cells[2] === 0 && cells[5] === 0)).toBe(true);
    expect(padded[0].flat().every((cells) => Math.abs(cells.reduce((a, b) => a + b) - 1) < 1e-5)).toBe(true);
  });

  it('does not look at padding among the tokens', () => {
    const model = symbols().eval();
    const { logits } = model.apply(tokens(), image());
    const longer = model.apply(concat([tokens(), tensor2d([0, 0], [2, 1], 'int32')], 1), image());
    expect(furthest(slice(longer.logits, [0, 0, 0], [-1, 6, -1]), logits)).toBeLessThan(1e-5);
  });

  it('corrects coverage by its structural tokens', () => {
    const out = (structuralTokens: number[]): Tensor =>
      symbols({ structuralTokens }).eval().apply(tokens(), image()).logits;
    expect(furthest(out([3, 4]), out([]))).toBeGreaterThan(1e-5);
    expect(furthest(out([]), out([8]))).toBe(0);
  });

  it('has right gradients, leaks nothing and has the same dropout from one seed', () => {
    const model = symbols().eval();
    gradCheck((x) => model.apply(tokens(), { features: x, padding: padding() }).logits, [features()], {
      order: 1,
      eps: 1 / 256,
    });
    const [ids, given] = [tokens(), image()];
    expectNoLeak(() => model.apply(ids, given));
    const dropped = (): Tensor => symbols({ dropout: 0.5 }).apply(ids, given).logits;
    expect(furthest(dropped(), dropped())).toBe(0);
    expect(furthest(dropped(), symbols({ dropout: 0.5 }).eval().apply(ids, given).logits)).toBeGreaterThan(1e-2);
  });

  it('refuses what does not fit', () => {
    expect(() => symbols().apply(slice(tokens(), [0, 0], [1, -1]), image())).toThrow(ShapeError);
    expect(() => symbols().apply(tokens(), { features: rng.normal([2, 6, 8]) })).toThrow(
      /\[batch, height, width, dim\]/,
    );
    expect(() => symbols().apply(tokens(), { features: rng.normal([2, 2, 3, 4]) })).toThrow(
      /memory \[batch, cells, 8\]/,
    );
    expect(() => symbols().apply(tokens(), { features: features(), padding: zeros([2, 3, 2]) })).toThrow(
      /padding \[batch, height, width\], not .* and \[2,3,2\]/,
    );
    const decoder = new CoverageDecoder({ dim: 8, heads: 2, rng });
    const memory = zeros([2, 6, 8]);
    expect(() => decoder.apply(zeros([2, 4, 6]), { memory: zeros([2, 6, 6]), height: 2 })).toThrow(/\[batch, T, 8\]/);
    expect(() => decoder.apply(zeros([2, 4, 8]), { memory, height: 2, tokenPadding: zeros([2, 6]) })).toThrow(
      ShapeError,
    );
    expect(() => decoder.apply(zeros([2, 4, 8]), { memory, height: 2, padding: zeros([2, 4]) })).toThrow(ShapeError);
    expect(() => symbols({ heads: 3 })).toThrow(/dim is 8; it must be a multiple of heads, 3/);
    expect(() => symbols({ vocabSize: 0 })).toThrow(/vocabSize is 0/);
    expect(() => symbols({ pad: Number.NaN })).toThrow(/SymbolDecoder: pad is NaN/);
    expect(() => symbols({ structuralTokens: [1, Number.NaN] })).toThrow(/structuralTokens\[1\] is NaN/);
    expect(() => symbols({ structuralTokens: 3 })).toThrow(/structuralTokens is 3; it must be a list/);
    expect(() => symbols({ dropout: 1 })).toThrow(/CoverageDecoder: dropout is 1/);
    expect(() => new CoverageDecoder({ layers: 0, rng })).toThrow(/layers is 0/);
    expect(() => new PositionDecoder({ ...options, maxDepth: 1 })).toThrow(/maxDepth is 1/);
  });

  it('takes encodings that are added to the tokens, and no other', () => {
    for (const encoding of [
      new Rope({ headDim: 4 }),
      new Alibi({ heads: 2 }),
      new SelfExtend({ headDim: 4, window: 2, group: 2 }),
    ]) {
      expect(() => symbols({ encoding })).toThrow(/SymbolDecoder: the encoding acts on .*take one with embed/);
      expect(() => new PositionDecoder({ ...options, encoding })).toThrow(/PositionDecoder: the encoding acts on/);
    }
    expect(() => symbols({ encoding: undefined })).toThrow(/encoding is undefined/);
    const out = (encoding: PositionEncoding): Tensor => symbols({ encoding }).eval().apply(tokens(), image()).logits;
    expect(furthest(out(new Sinusoidal({ dim: 8 })), out(new Nope()))).toBeGreaterThan(1e-2);
    expect(() => out(new Sinusoidal({ dim: 4 }))).toThrow(/SymbolDecoder: its encoding adds \[6,4\] to tokens/);
  });
});

describe('posformerLoss', () => {
  const signals = (classes: number): Tensor => rng.fork('logits').normal([2, 6, classes]);
  const logits = { tokens: signals(9), levels: signals(5), positions: signals(6) };

  it('is 0, with gradients of 0, where all is padding', () => {
    const none = zeros([2, 6], 'int32');
    const loss = (x: Tensor): Tensor =>
      posformerLoss({ ...logits, tokens: x }, { tokens: none, levels: none, positions: none }).total;
    expect(loss(logits.tokens).dataSync()[0]).toBe(0);
    expect(max(abs(grads(loss)([logits.tokens])[0])).dataSync()[0]).toBe(0);
  });

  it('refuses options out of range', () => {
    const wanted = { tokens: targets(), levels: zeros([2, 6], 'int32'), positions: zeros([2, 6], 'int32') };
    expect(() => posformerLoss(logits, wanted, { weight: -0.5 })).toThrow(/posformerLoss: weight is -0\.5/);
    expect(() => posformerLoss(logits, wanted, { pad: Number.NaN })).toThrow(/posformerLoss: pad is NaN/);
  });
});

it('both decoders learn under jit from the joint loss, and the symbols alone need no position decoder', async () => {
  await setBackend('ort');
  const [words, places] = [symbols(), new PositionDecoder({ ...options, headHidden: 16 })];
  const identifiers = cast(rng.fork('identifiers').integers([2, 6, 5], 0, 6), 'float32');
  const levels = tensor2d([0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0], [2, 6], 'int32');
  const positions = tensor2d([3, 3, 4, 3, 2, 0, 3, 3, 4, 3, 3, 1], [2, 6], 'int32');
  const parameters = new Map(
    [words, places].flatMap((model, i) =>
      [...model.namedParameters()].map(([name, p]) => [`${i}.${name}`, p] as const),
    ),
  );
  const optimizer = new Optimizer(parameters, adam({ learningRate: 1e-2 }));
  const given = image();
  const [ids, wanted] = [tokens(), targets()];
  const step = jit(
    () => {
      const { loss, grads } = lossAndGrads(() => {
        const { logits } = words.apply(ids, given);
        const out = places.apply(identifiers, ids, given);
        const predicted = { tokens: logits, levels: out.levels, positions: out.positions };
        return posformerLoss(predicted, { tokens: wanted, levels, positions }).total;
      }, parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss as Tensor;
    },
    { state: [moduleState(words), moduleState(places), optimizer] },
  );
  const losses = Array.from({ length: 60 }, () => step().dataSync()[0]);
  expect(losses[59]).toBeLessThan(0.3 * losses[0]);
  expect(step.traces).toBe(1);
  words.eval();
  const before = words.apply(ids, given).logits;
  places.dispose();
  expect(furthest(words.apply(ids, given).logits, before)).toBe(0);
  step.dispose();
  await setBackend('cpu');
});
