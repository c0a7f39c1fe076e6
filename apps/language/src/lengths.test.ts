import { Clex, Nope, Rope, SeqPe, T5RelativeBias } from '@ashlar/encodings';
import { ConfigError, memory, Rng, type Scalar, ShapeError, scalar, type Tensor } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { startBackend } from './backend.ts';
import type { EncodingSetting } from './encodings.ts';
import { type LengthsEvent, type LengthsOptions, lengthGeneralization, summarizeLengths } from './lengths.ts';

beforeAll(startBackend);

const TINY: LengthsOptions = {
  ...{ trainLength: 3, testLength: 5, steps: 4, seeds: [0], batchSize: 4, count: 5, width: 8, heads: 2, layers: 1 },
};

async function all(options: LengthsOptions): Promise<LengthsEvent[]> {
  const events: LengthsEvent[] = [];
  for await (const event of lengthGeneralization({ ...TINY, ...options })) events.push(event);
  return events;
}

const withoutTime = (events: LengthsEvent[]): unknown[] =>
  events.map((event) => (event.type === 'measured' ? { ...event, seconds: 0 } : event));

describe('lengthGeneralization', () => {
  it('learns the trained lengths, and tells a seen length from a new one', async () => {
    const size = { width: 32, layers: 2, batchSize: 16, symbols: 2 };
    const options = { ...size, encodings: ['learned'], testLength: 8, steps: 120, learningRate: 5e-3 };
    const runs = (await all(options)).filter((event) => event.type === 'measured');
    const [learned] = summarizeLengths(runs, 3);
    expect(learned.seen).toBeGreaterThan(0.95);
    expect(learned.unseen).toBeLessThan(0.5);
    // 16 tokens are trained: 7 symbols, twice, and three marks are more.
    expect(learned.accuracy.map(({ accuracy }) => accuracy === null)).toEqual([...Array(6).fill(false), true, true]);
  });

  it('repeats itself by its seed, and leaves no tensors', async () => {
    const options = { encodings: ['t5', 'rope'], seeds: [1] };
    await all(options);
    const before = memory().numTensors;
    const first = withoutTime(await all(options));
    expect(withoutTime(await all(options))).toEqual(first);
    expect(withoutTime(await all({ ...options, seeds: [2] }))).not.toEqual(first);
    expect(memory().numTensors).toBe(before);
  });

  it('leaves out runs that are done, and takes a name or a seed once', async () => {
    const options = { encodings: ['none', 'alibi'], seeds: [0, 1] };
    const whole = withoutTime(await all(options));
    const done = [
      { encoding: 'none', seed: 0 },
      { encoding: 'alibi', seed: 1 },
    ];
    // Each run is a step and a measurement.
    expect(withoutTime(await all({ ...options, done }))).toEqual(whole.slice(2, 6));
    expect(withoutTime(await all({ encodings: ['none', 'alibi', 'none'], seeds: [0, 1, 0] }))).toEqual(whole);
  });

  it('takes every encoding at the shortest length', async () => {
    const events = await all({
      encodings: ['dualchunk', 'selfextend', 'rerope', 'dpe'],
      trainLength: 1,
      testLength: 2,
    });
    expect(events.filter(({ type }) => type === 'measured')).toHaveLength(4);
  });

  it('takes encodings and tasks of ones own', async () => {
    const lengths: number[] = [];
    const events = await all({
      encodings: {
        rotated: new Rope({ headDim: 4 }),
        biased: ({ heads, rng }) => new T5RelativeBias({ heads, rng, buckets: 4, maxDistance: 8 }),
      },
      task: ({ minLength, maxLength, count }) => {
        lengths.push(minLength, maxLength);
        return Array.from({ length: count }, (_, i) => {
          const length = minLength + (i % (maxLength - minLength + 1));
          return { prompt: 'count', target: 'I '.repeat(length), length };
        });
      },
    });
    expect([...new Set(events.map(({ encoding }) => encoding))]).toEqual(['rotated', 'biased']);
    expect(Math.max(...lengths)).toBe(5);
  });

  it("adds an encoding's own loss, and has it draw before each step", async () => {
    class Costly extends Nope {
      drawn = 0;
      sample(): void {
        this.drawn++;
      }
      auxiliaryLoss(): Scalar {
        return scalar(1000);
      }
    }
    const costly = new Costly();
    const [plain] = await all({ encodings: { free: new Nope() } });
    const [loaded] = await all({ encodings: { costly } });
    expect(costly.drawn).toBe(4);
    expect(loaded.type === 'step' && loaded.loss).toBeCloseTo(1000 + (plain.type === 'step' ? plain.loss : NaN), 3);
  });

  it('trains SeqPE with its two losses, on samples of their own in each step', async () => {
    const samples: string[] = [];
    class Watched extends SeqPe {
      override sample(): void {
        super.sample();
        samples.push(String([this.contrast?.places, this.windows].map((buffer) => buffer?.stored.dataSync())));
      }
    }
    const seqpe =
      (weight: number) =>
      ({ heads, headDim, trainedLength, rng }: EncodingSetting): SeqPe =>
        new Watched({
          ...{ mode: 'attn_scalar', encoder: { dim: 8, heads: 2, dropout: 0 }, heads, headDim, maxPosition: 100, rng },
          training: {
            window: trainedLength,
            shiftRate: 0,
            contrastive: { weight, pivots: 2, candidates: 4 },
            transfer: { weight, windows: 2, positions: 4 },
          },
        });
    const [bare] = await all({ encodings: { seqpe: seqpe(0) }, steps: 1 });
    samples.length = 0;
    const [full] = await all({ encodings: { seqpe: seqpe(10) }, steps: 1 });
    expect(full.type === 'step' && bare.type === 'step' && full.loss - bare.loss).toBeGreaterThan(1);
    samples.length = 0;
    await all({ encodings: { seqpe: seqpe(1) } });
    // Two encodings are made, one of them to see whether it fits; the other draws for itself and for four steps.
    expect(samples).toHaveLength(6);
    expect(new Set(samples.slice(1)).size).toBe(5);
  });

  it('trains CLEX at drawn scales and spread positions, and tests it at the scale of the length', async () => {
    const spread: Clex[] = [];
    const drawn: [number, number, number][] = [];
    class Watched extends Clex {
      override trainingPositions(length: number, factor: number, rng: Rng): Tensor {
        const positions = super.trainingPositions(length, factor, rng);
        drawn.push([length, factor, positions.dataSync().at(-1) ?? NaN]);
        return positions;
      }
    }
    const clex = ({ headDim, trainedLength: originalLength, rng }: EncodingSetting): Clex => {
      spread.push(new Watched({ headDim, originalLength, maxFactor: 3, stepSize: 0.5, rng }));
      return spread[spread.length - 1];
    };
    for await (const event of lengthGeneralization({ ...TINY, encodings: { clex }, steps: 12, width: 16 })) {
      if (event.type === 'step') continue;
      const trained = spread[1];
      expect(trained.factor).toBeUndefined();
      expect(Math.max(...trained.down.stored.dataSync().map(Math.abs))).toBeGreaterThan(0);
    }
    expect(drawn).toHaveLength(12);
    expect(new Set(drawn.map(([, factor]) => factor))).toEqual(new Set([1, 2, 3]));
    for (const [length, factor, last] of drawn) expect(last).toBe(length * factor - 1);
  });

  it.each(['seqpe', 'clex'])('repeats %s by its seed, and leaves no tensors', async (name) => {
    await all({ encodings: [name] });
    const before = memory().numTensors;
    const first = withoutTime(await all({ encodings: [name] }));
    expect(withoutTime(await all({ encodings: [name] }))).toEqual(first);
    expect(memory().numTensors).toBe(before);
  });

  it.each(['addition', 'lego', 'sort-numbers', 'parity'])('runs %s', async (task) => {
    const [last] = (await all({ task, encodings: ['none'] })).slice(-1);
    expect(last).toMatchObject({ type: 'measured', encoding: 'none' });
  });

  it('has the scratchpad written too', async () => {
    const plain = await all({ task: 'sum', encodings: ['none'] });
    const long = await all({ task: 'sum', encodings: ['none'], scratchpad: { computation: false } });
    expect(withoutTime(long)).not.toEqual(withoutTime(plain));
  });

  it('stops on a signal', async () => {
    const abort = new AbortController();
    const run = async (): Promise<void> => {
      for await (const _ of lengthGeneralization({ ...TINY, steps: 200, signal: abort.signal })) abort.abort();
    };
    const before = memory().numTensors;
    await expect(run()).rejects.toThrow(/abort/i);
    expect(memory().numTensors).toBe(before);
  });

  it.each([
    [{ task: 'sums' }, /no length task "sums"; closest: sum/],
    [{ encodings: ['ropes'] }, /no encoding "ropes"; closest: rope/],
    [{ encodings: { mine: 3 as never } }, /mine/],
    [{ task: () => [] }, /as many problems/],
    [{ testLength: 3 }, /testLength is 3/],
    [{ steps: 0 }, /steps is 0/],
    [{ scratchpad: true }, /"repeat" has none/],
    [{ seeds: [] }, /seeds is empty/],
    [{ width: 9 }, /width is 9/],
    [{ task: 'lego', trainLength: 1 }, /"lego" starts at 2/],
    [{ learningRate: -1 }, /learningRate is -1/],
  ])('refuses %j before it trains', (options, message) => {
    const call = (): unknown => lengthGeneralization({ ...TINY, ...options } as LengthsOptions);
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });

  it('refuses an encoding that does not fit the model before it trains the others', async () => {
    const before = memory().numTensors;
    const first = lengthGeneralization({ ...TINY, encodings: ['t5', 'rope'], width: 6 }).next();
    await expect(first).rejects.toThrow(ShapeError);
    expect(memory().numTensors).toBe(before);
  });

  it('refuses a module as an object', () => {
    const t5 = new T5RelativeBias({ heads: 2, rng: new Rng(0) });
    expect(() => lengthGeneralization({ ...TINY, encodings: { t5 } })).toThrow(/"t5" is a module; give a function/);
    t5.dispose();
  });
});
