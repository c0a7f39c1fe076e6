import '@tensorflow/tfjs-backend-cpu';
import { attend, normal_ } from '@ashlar/nn';
import { adamw, Optimizer } from '@ashlar/optim';
import {
  abs,
  add,
  ConfigError,
  disposeMap,
  loadStateDict,
  lossAndGrads,
  max,
  memory,
  Rng,
  range,
  type Scalar,
  setBackend,
  slice,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { positionGrid } from './position-digits.ts';
import { SeqPe, type SeqPeOptions, type SeqPeTrainingOptions } from './seqpe.ts';

beforeAll(() => setBackend('cpu'));

const [HEADS, HEAD] = [4, 4];
const MODES = ['attn_mul', 'attn_add', 'attn_scalar'] as const;

/** Large initial values, so that positions show. */
const seqPe = (options: Partial<SeqPeOptions> = {}): SeqPe =>
  new SeqPe({
    mode: 'attn_scalar',
    encoder: { dim: 16, heads: 2, layers: 1, dropout: 0 },
    maxPosition: 100,
    heads: HEADS,
    headDim: HEAD,
    rng: new Rng(7),
    init: normal_({ std: 0.4 }),
    ...options,
  });

const TRAINING: SeqPeTrainingOptions = {
  window: 8,
  contrastive: { pivots: 3, candidates: 5 },
  transfer: { windows: 2, positions: 4 },
};

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const queries = (heads: number, seq: number, seed = 1): Tensor => new Rng(seed).normal([2, heads, seq, HEAD]);
const places = (...values: number[]): Tensor => tensor1d(values, 'int32');

describe('SeqPe', () => {
  it('has the hook of its mode alone', () => {
    const hooks = (options: Partial<SeqPeOptions>): string[] => {
      const encoding = seqPe(options);
      return (['embed', 'rotate', 'bias'] as const).filter((hook) => encoding[hook] !== undefined);
    };
    expect(hooks({ mode: 'input_add', heads: undefined })).toEqual(['embed']);
    expect(hooks({ mode: 'attn_mul' })).toEqual(['rotate']);
    expect(hooks({ mode: 'attn_add' })).toEqual(['rotate']);
    expect(hooks({ mode: 'attn_scalar' })).toEqual(['bias']);
  });

  it.each(MODES)('%s: one query over cached keys, for grouped queries too', (mode) => {
    for (const kvHeads of [HEADS, 2, 1]) {
      const encoding = seqPe({ mode, kvHeads, layers: 2 });
      const [q, k] = [queries(HEADS, 6), queries(kvHeads, 6, 2)];
      for (const layer of [0, 1]) {
        const options = { encoding, layer, causal: true };
        const whole = attend(q, k, k, options);
        const last = attend(slice(q, [0, 0, 5, 0], [-1, -1, 1, -1]), k, k, options);
        expect(distance(last, slice(whole, [0, 0, 5, 0], [-1, -1, 1, -1]))).toBeLessThan(1e-5);
        expect(distance(whole, attend(q, k, k, { causal: true }))).toBeGreaterThan(1e-2);
      }
    }
  });

  it('attn_scalar adds the products of positions to those of queries and keys', () => {
    const encoding = seqPe({ scalarScale: 2 });
    const positions = places(3, 40);
    const [pq, pk] = encoding.injections[0].apply(encoding.apply(positions));
    const [a, b] = [pq.arraySync() as number[][][], pk.arraySync() as number[][][]];
    const product = a[1][0].reduce((total, x, i) => total + x * b[1][1][i], 0);
    const bias = encoding.bias?.(positions, positions, { layer: 5 }).arraySync() as number[][][];
    expect(bias[1][0][1]).toBeCloseTo((2 * product) / Math.sqrt(HEAD), 4);
  });

  it('input_add gives tokens vectors of their width', () => {
    const encoding = seqPe({ mode: 'input_add', encoder: { dim: 16, heads: 2, dropout: 0, outDim: 6 } });
    expect(encoding.embed?.(places(0, 99)).shape).toEqual([2, 6]);
    expect(encoding.injections).toEqual([]);
  });

  it.each<[number, number]>([
    [2, 10000],
    [3, 27],
  ])('takes %i axes', (axes, maxPosition) => {
    const encoding = seqPe({ axes, maxPosition, mode: 'attn_mul' });
    expect(encoding.encoder.maxDigits).toBe(axes === 2 ? 2 : 1);
    const grid = positionGrid(Array(axes).fill(2));
    const positions = tensor2d(grid, [grid.length, axes], 'int32');
    const x = queries(HEADS, grid.length);
    const options = { encoding, qPositions: positions, kPositions: positions };
    const out = attend(x, x, x, options);
    expect(out.shape).toEqual(x.shape);
    expectNoLeak(() => tidy(() => attend(x, x, x, options)));
    // Rows and columns are not the same.
    const [a, b] = [
      [1, 0],
      [0, 1],
    ].map((row) => encoding.apply(tensor2d([[...row, 0].slice(0, axes)], [1, axes], 'int32')));
    expect(distance(a, b)).toBeGreaterThan(1e-3);
    expect(() => encoding.apply(places(1))).toThrow(/positions must be \[seq, /);
  });

  it('reaches every position of its digits, beyond maxPosition too', () => {
    const encoding = seqPe({ maxPosition: 32 }).eval();
    expect(encoding.encoder.maxDigits).toBe(2);
    const far = encoding.apply(places(31, 32, 99)).arraySync() as number[][];
    expect(far.flat().every(Number.isFinite)).toBe(true);
    expect(() => encoding.apply(places(100))).toThrow(/coordinate 100 .index 0. must be from 0 to 99/);
    expect(seqPe({ maxPosition: 32, maxDigits: 4 }).apply(places(9999)).shape).toEqual([1, 16]);
  });

  it.each(MODES)('%s: right gradients inside attention, through the encoder too', (mode) => {
    const encoding = seqPe({ mode });
    const x = new Rng(2).normal([1, HEADS, 3, HEAD], { std: 0.5 });
    gradCheck((x) => attend(x, x, x, { encoding, causal: true }), [x]);
    expectNoLeak(() => attend(x, x, x, { encoding, causal: true }));
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(
      () => sum(square(attend(x, x, x, { encoding, causal: true }))) as Scalar,
      encoding.trainableParameters(),
    );
    for (const [name, grad] of grads) {
      const largest = tidy(() => max(abs(grad)).dataSync()[0]);
      // Biases of keys shift all logits of a query alike.
      if (!name.includes('c_attn.bias')) expect(largest, name).toBeGreaterThan(0);
    }
    loss.dispose();
    disposeMap(grads);
    expect(memory().numTensors).toBe(before);
  });

  it('saves and loads by its parameters alone, samples aside', () => {
    const encoding = seqPe({ training: TRAINING, layers: 2 });
    const names = [...stateDict(encoding).keys()];
    expect(names).toContain('injections.1.pe_qk.weight');
    expect(names.filter((name) => !/^encoder\.|^injections\.\d\.pe_qk\./.test(name))).toEqual([]);
    const other = seqPe({ rng: new Rng(8), layers: 2 }).eval();
    const positions = places(1, 50);
    const expected = encoding.eval().apply(positions);
    expect(distance(other.apply(positions), expected)).toBeGreaterThan(1e-2);
    loadStateDict(other, stateDict(encoding));
    expect(distance(other.apply(positions), expected)).toBe(0);
    const same = seqPe({ layers: 2 }).eval();
    expect(distance(same.apply(positions), expected)).toBe(0);
  });

  it('remembers vectors for evaluation until the encoder changes', () => {
    const encoding = seqPe();
    const positions = range(0, 9, 1, 'int32');
    expect(() => encoding.remember(positions)).toThrow(/call eval\(\)/);
    encoding.eval();
    const expected = encoding.apply(positions);
    let passes = 0;
    encoding.encoder.registerForwardHook(() => void passes++);
    encoding.remember(positions);
    passes = 0;
    const few = encoding.apply(places(8, 2));
    expect(passes).toBe(0);
    expect(distance(few, encoding.encoder.apply(places(8, 2)))).toBeLessThan(1e-6);
    expectNoLeak(() => encoding.apply(positions));
    passes = 0;
    encoding.apply(places(8, 9));
    expect(passes, 'one that is not known').toBe(1);
    const bias = encoding.encoder.out_proj.bias;
    bias?.assign(tidy(() => add(bias.stored, 1)));
    expect(distance(encoding.apply(positions), add(expected, 1))).toBeLessThan(1e-5);
    encoding.remember(positions);
    passes = 0;
    encoding.train().apply(positions);
    expect(passes, 'in training').toBe(1);
  });

  it('refuses what does not fit', () => {
    expect(() => seqPe({ heads: undefined })).toThrow(/heads/);
    expect(() => seqPe({ headDim: undefined })).toThrow(/headDim is missing/);
    expect(() => seqPe({ mode: 'rotary' as 'attn_mul' })).toThrow(/"input_add", "attn_mul", "attn_add", "attn_scalar"/);
    expect(() => seqPe({ mode: 'attn_mul', headDim: 8 })).toThrow(/headDim is 8/);
    expect(() => seqPe({ maxPosition: 101, maxDigits: 2 })).toThrow(
      /coordinates up to 100 .maxPosition. have 3 digits/,
    );
    expect(() => seqPe({ maxPosition: 0 })).toThrow(ConfigError);
    expect(() => seqPe({ layers: 2 }).bias?.(places(0), places(0), { layer: 2 })).toThrow(
      /layers is 2; layer 2 is asked/,
    );
    const training = (own: Partial<SeqPeTrainingOptions>) => () => seqPe({ training: { ...TRAINING, ...own } });
    expect(training({ window: 101 })).toThrow(/window is \[101\]/);
    expect(training({ window: [4, 4] })).toThrow(/a side for each of the 1 axes/);
    expect(training({ shiftRate: 2 })).toThrow(/shiftRate is 2/);
    expect(training({ contrastive: { candidates: 0 } })).toThrow(/candidates is 0/);
    expect(training({ contrastive: { weight: -1 } })).toThrow(/weight is -1/);
    expect(training({ contrastive: { heads: 3 } })).toThrow(/heads is 3; it must divide the width, 16/);
    expect(training({ transfer: { beta: 2 } })).toThrow(/beta is 2/);
    expect(() => seqPe().apply(tensor1d([0.5]))).toThrow(/whole positions/);
    expect(() => seqPe().apply(places(-1))).toThrow(/positions from 0, not -1/);
  });
});

describe('SeqPe in training', () => {
  it('adds both losses, by their weights', () => {
    const at = (own: Partial<SeqPeTrainingOptions>): number =>
      tidy(
        () =>
          seqPe({ training: { ...TRAINING, shiftRate: 0, ...own } })
            .auxiliaryLoss()
            .dataSync()[0],
      );
    const { contrastive, transfer } = TRAINING as { contrastive: object; transfer: object };
    const [c, t] = [at({ transfer: false }), at({ contrastive: false })];
    expect(c).toBeGreaterThan(0);
    expect(t).toBeGreaterThan(0);
    expect(at({ contrastive: { ...contrastive, weight: 0.2 }, transfer: false })).toBeCloseTo(2 * c, 5);
    expect(at({ transfer: { ...transfer, weight: 0.3 }, contrastive: false })).toBeCloseTo(3 * t, 6);
    expect(at({ contrastive: false, transfer: false })).toBe(0);
    expect(seqPe().auxiliaryLoss().dataSync()[0]).toBe(0);
  });

  it('draws anew by sample(), the same from the same seed, and leaks nothing', () => {
    const run = (seed: number): number[] => {
      const encoding = seqPe({ training: TRAINING, rng: new Rng(seed) });
      return [0, 1, 2].map(() => {
        encoding.sample();
        return encoding.auxiliaryLoss().dataSync()[0];
      });
    };
    const first = run(1);
    expect(new Set(first).size).toBe(3);
    expect(run(1)).toEqual(first);
    const before = memory().numTensors;
    const encoding = seqPe({ training: TRAINING });
    expectNoLeak(() => encoding.sample());
    expectNoLeak(() => encoding.auxiliaryLoss());
    const { loss, grads } = lossAndGrads(() => encoding.auxiliaryLoss(), encoding.encoder.trainableParameters());
    expect(tidy(() => max(abs(grads.get('out_proj.weight') as Tensor)).dataSync()[0])).toBeGreaterThan(0);
    loss.dispose();
    disposeMap(grads);
    encoding.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('shifts the main window in training, and then leaves the transfer loss out', () => {
    const training = { ...TRAINING, shiftRate: 1, contrastive: false } as const;
    const encoding = seqPe({ training });
    const plain = seqPe();
    const positions = places(0, 3);
    const starts = new Set<number>();
    for (let i = 0; i < 20; i++) {
      encoding.sample();
      const start = encoding.origin?.stored.dataSync()[0] as number;
      starts.add(start);
      expect(start).toBeLessThanOrEqual(92);
      expect(distance(encoding.apply(positions), plain.apply(places(start, start + 3)))).toBeLessThan(1e-6);
      if (start > 0) expect(encoding.auxiliaryLoss().dataSync()[0]).toBe(0);
    }
    expect(starts.size).toBeGreaterThan(10);
    expect(() => encoding.apply(places(8))).toThrow(/outside of training.window, \[8\]/);
    encoding.eval();
    expect(distance(encoding.apply(positions), plain.apply(positions))).toBe(0);
    expect(() => encoding.apply(places(8))).not.toThrow();
  });

  it('shifts about as often as it should', () => {
    const encoding = seqPe({ training: { ...TRAINING, shiftRate: 0.3 } });
    let shifts = 0;
    for (let i = 0; i < 300; i++) {
      encoding.sample();
      shifts += Number(encoding.origin?.stored.dataSync()[0] !== 0);
    }
    expect(shifts).toBeGreaterThan(60);
    expect(shifts).toBeLessThan(120);
  });

  it('teaches which positions are close', () => {
    const contrastive = { pivots: 16, candidates: 4, windowShare: 0, hardShare: 0 };
    const training = { window: 4, shiftRate: 0, transfer: false, contrastive } as const;
    const encoding = seqPe({ maxPosition: 10, training, init: normal_({ std: 0.1 }) });
    const parameters = encoding.encoder.trainableParameters();
    const optimizer = new Optimizer(parameters, adamw({ learningRate: 3e-3 }));
    const step = (): number => {
      encoding.sample();
      const { loss, grads } = lossAndGrads(() => encoding.auxiliaryLoss(), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss.dataSync()[0] / 0.1;
    };
    const losses = Array.from({ length: 60 }, step);
    const mean = (part: number[]): number => part.reduce((a, b) => a + b) / part.length;
    expect(mean(losses.slice(-10))).toBeLessThan(0.7 * mean(losses.slice(0, 10)));
  });

  it('works in two axes', () => {
    const encoding = seqPe({ axes: 2, maxPosition: 400, training: { ...TRAINING, window: [3, 4] } });
    expect(encoding.windows?.shape).toEqual([2, 2, 4, 2]);
    for (let i = 0; i < 5; i++) {
      encoding.sample();
      expect(Number.isFinite(encoding.auxiliaryLoss().dataSync()[0])).toBe(true);
    }
  });
});
