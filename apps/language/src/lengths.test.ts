import { Rope, T5RelativeBias } from '@ashlar/encodings';
import { ConfigError, memory, Rng, ShapeError } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { startBackend } from './backend.ts';
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
