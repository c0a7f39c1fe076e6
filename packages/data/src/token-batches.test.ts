import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, FormatError, memory, Rng, setBackend } from '@ashlar/tensor';
import { BatchStream } from '@ashlar/train';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Tokens } from './pack-tokens.ts';
import { type TokenBatch, TokenBatches, type TokenBatchesOptions } from './token-batches.ts';

beforeAll(() => setBackend('cpu'));

const range = (n: number): Tokens => Int32Array.from({ length: n }, (_, i) => i);

/** The batch's windows, and the batch disposed of. */
function rows({ inputIds, labels }: TokenBatch): { inputIds: number[][]; labels: number[][] } {
  const values = { inputIds: inputIds.arraySync(), labels: labels.arraySync() };
  inputIds.dispose();
  labels.dispose();
  return values;
}

function epoch(batches: TokenBatches): ReturnType<typeof rows>[] {
  return Array.from(batches, rows);
}

/** The batches of all epochs, as a training loop goes through them; null where an epoch ends. */
function* endless(batches: TokenBatches): Generator<ReturnType<typeof rows> | null, never> {
  for (;;) {
    for (const batch of batches) yield rows(batch);
    yield null;
  }
}

const sizes = fc
  .record({
    batchSize: fc.integer({ min: 1, max: 4 }),
    sequenceLength: fc.integer({ min: 1, max: 6 }),
    shuffle: fc.boolean(),
    dropLast: fc.boolean(),
    spare: fc.nat(60),
    seed: fc.nat(),
  })
  .map(({ spare, seed, ...options }) => {
    const tokens = range(options.batchSize * options.sequenceLength + 1 + spare);
    const create = (ownSeed = seed): TokenBatches => new TokenBatches(tokens, { ...options, rng: new Rng(ownSeed) });
    return { tokens, options, create };
  });

describe('TokenBatches', () => {
  it('give windows of [batch, sequence] int32, each with the tokens that follow as labels', () => {
    const batches = new TokenBatches(Uint16Array.from([5, 6, 7, 8, 9, 10, 11]), {
      batchSize: 2,
      sequenceLength: 3,
      shuffle: false,
    });
    const [batch] = batches;
    expect(batch.inputIds).toMatchObject({ shape: [2, 3], dtype: 'int32' });
    expect(batch.labels).toMatchObject({ shape: [2, 3], dtype: 'int32' });
    expect(rows(batch)).toEqual({
      inputIds: [
        [5, 6, 7],
        [8, 9, 10],
      ],
      labels: [
        [6, 7, 8],
        [9, 10, 11],
      ],
    });
  });

  it('go through windows that do not overlap, each once an epoch', () => {
    fc.assert(
      fc.property(sizes, ({ tokens, options, create }) => {
        const batches = create();
        for (let e = 0; e < 3; e++) {
          const given = epoch(batches);
          expect(given).toHaveLength(batches.length);
          const windows = given.flatMap(({ inputIds, labels }) => {
            expect(labels).toEqual(inputIds.map((row) => row.map((token) => token + 1)));
            if (options.dropLast) expect(inputIds).toHaveLength(options.batchSize);
            return inputIds;
          });
          const seen = windows.flat().sort((a, b) => a - b);
          expect(new Set(seen).size).toBe(seen.length);
          const places = windows.map(([start]) => start % options.sequenceLength);
          expect(new Set(places).size).toBe(1);
          const left = options.dropLast ? options.batchSize * options.sequenceLength : options.sequenceLength;
          expect(tokens.length - 1 - seen.length).toBeLessThan(left + 2 * options.sequenceLength);
          if (!options.shuffle) expect(windows.flat()).toEqual(seen.map((_, i) => i));
        }
      }),
    );
  });

  it('differ from epoch to epoch in order and offset, and cover every token sooner or later', () => {
    const batches = new TokenBatches(range(200), { batchSize: 2, sequenceLength: 8, rng: new Rng(1) });
    const epochs = Array.from({ length: 60 }, () => epoch(batches).flatMap(({ inputIds }) => inputIds));
    expect(new Set(epochs.map((windows) => windows[0][0] % 8)).size).toBe(8);
    expect(new Set(epochs.map((windows) => JSON.stringify(windows))).size).toBeGreaterThan(55);
    expect(new Set(epochs.flat(2)).size).toBe(199);
  });

  it('are the same for the same seed, whatever else was drawn from the generator', () => {
    const options = { batchSize: 2, sequenceLength: 4 };
    const rng = new Rng('seed');
    rng.uniformArray(7);
    const expected = epoch(new TokenBatches(range(50), { ...options, rng: new Rng('seed') }));
    expect(epoch(new TokenBatches(range(50), { ...options, rng }))).toEqual(expected);
    expect(epoch(new TokenBatches(range(50), { ...options, rng: new Rng('other') }))).not.toEqual(expected);
  });

  it('go on after a restored state with the very same batches, for good', () => {
    fc.assert(
      fc.property(sizes, fc.nat(30), fc.nat(), ({ create }, taken, otherSeed) => {
        const batches = create();
        const stream = endless(batches);
        for (let i = 0; i < taken; i++) stream.next();
        const state = JSON.parse(JSON.stringify(batches.state()));
        const expected = Array.from({ length: 10 }, () => stream.next().value);

        const resumed = create(otherSeed);
        resumed.restore(state);
        const continued = endless(resumed);
        expect(Array.from({ length: 10 }, () => continued.next().value)).toEqual(expected);
        expect(resumed.state()).toEqual(batches.state());
      }),
    );
  });

  it('go on in the stream of a training run', async () => {
    const source = fc.tuple(sizes, fc.integer({ min: 0, max: 25 }), fc.nat());
    await fc.assert(
      fc.asyncProperty(source, async ([{ create }, taken, otherSeed]) => {
        const take = async (stream: BatchStream<TokenBatch>, count: number): Promise<unknown[]> => {
          const given: unknown[] = [];
          for (let i = 0; i < count; i++) given.push(rows((await stream.next())!));
          return given;
        };
        const before = memory().numTensors;
        const stream = new BatchStream(create());
        await take(stream, taken);
        const position = JSON.parse(JSON.stringify(stream.position()));
        const expected = await take(stream, 10);

        const resumed = new BatchStream(create(otherSeed));
        await resumed.seek(position);
        expect(await take(resumed, 10)).toEqual(expected);
        expect(resumed.position()).toEqual(stream.position());
        expect(memory().numTensors).toBe(before);
      }),
    );
  });

  it('go on with the epoch after a pass was left, and with the next one if it was over', () => {
    const batches = new TokenBatches(range(13), { batchSize: 1, sequenceLength: 4, shuffle: false });
    const first: number[] = [];
    const take = (count: number): void => {
      for (const batch of batches) {
        first.push(rows(batch).inputIds[0][0]);
        if (--count === 0) break;
      }
    };
    take(2);
    take(1);
    expect(batches.state()).toMatchObject({ epoch: 1, index: 0 });
    take(9);
    expect(first).toEqual([0, 4, 8, 0, 4, 8]);
  });

  it('make what they can of little text', () => {
    const options = { batchSize: 3, sequenceLength: 4, rng: new Rng(1) };
    expect(new TokenBatches(range(13), options)).toHaveLength(1);
    expect(epoch(new TokenBatches(range(5), { ...options, dropLast: false }))[0].inputIds).toEqual([[0, 1, 2, 3]]);
  });

  it('leak nothing', () => {
    const batches = new TokenBatches(range(100), { batchSize: 2, sequenceLength: 4, rng: new Rng(1) });
    const before = memory().numTensors;
    epoch(batches);
    batches.restore(batches.state());
    expect(memory().numTensors).toBe(before);
  });

  it.each<[number, Partial<TokenBatchesOptions>, string]>([
    [12, {}, 'there are 12 tokens; batchSize 3 and sequenceLength 4 need at least 13. Give more text'],
    [4, { dropLast: false }, 'need at least 5'],
    [0, { dropLast: false }, 'there are 0 tokens'],
    [50, { batchSize: 0 }, 'batchSize is 0; it must be a whole number >= 1'],
    [50, { sequenceLength: 2.5 }, 'sequenceLength is 2.5'],
    [50, { rng: undefined }, 'rng is missing; shuffle: true needs one'],
  ])('refuse %i tokens with %j', (count, options, message) => {
    const create = (): TokenBatches =>
      new TokenBatches(range(count), { batchSize: 3, sequenceLength: 4, rng: new Rng(1), ...options });
    expect(create).toThrow(ConfigError);
    expect(create).toThrow(message);
  });

  it.each<[string, (state: ReturnType<TokenBatches['state']>) => unknown, string]>([
    ['nothing', () => undefined, 'not a state'],
    ['other tokens', (state) => ({ ...state, tokens: 51 }), 'tokens was 51 and is now 50'],
    ['another batchSize', (state) => ({ ...state, batchSize: 2 }), 'batchSize was 2 and is now 3'],
    ['an epoch before the first', (state) => ({ ...state, epoch: -1 }), 'epoch is -1'],
    [
      'a batch beyond the last',
      (state) => ({ ...state, index: 99 }),
      'index is 99; it may be a whole number in [0, 3]',
    ],
    ['no generator', (state) => ({ ...state, rng: null }), 'algorithm'],
  ])('refuse a state of %s', (_, change, message) => {
    const batches = new TokenBatches(range(50), { batchSize: 3, sequenceLength: 4, rng: new Rng(1) });
    const state = batches.state();
    expect(() => batches.restore(change(state))).toThrow(FormatError);
    expect(() => batches.restore(change(state))).toThrow(message);
    expect(batches.state()).toEqual(state);
  });

  it('take up any state that they do not refuse', () => {
    const create = (): TokenBatches =>
      new TokenBatches(range(50), { batchSize: 3, sequenceLength: 4, rng: new Rng(1) });
    const good = create().state();
    const field = fc.oneof(
      fc
        .tuple(fc.constantFrom(...Object.keys(good)), fc.jsonValue())
        .map(([key, value]) => ({ ...good, [key]: value })),
      fc
        .tuple(fc.constantFrom(...Object.keys(good.rng!)), fc.jsonValue())
        .map(([key, value]) => ({ ...good, rng: { ...good.rng, [key]: value } })),
    );
    fc.assert(
      fc.property(fc.oneof(field, fc.jsonValue()), (state) => {
        const batches = create();
        try {
          batches.restore(state);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
          expect(batches.state()).toEqual(good);
        }
        expect(epoch(batches).length).toBeLessThanOrEqual(batches.length);
        expect(epoch(batches)).toHaveLength(batches.length);
      }),
      { numRuns: 300 },
    );
  });
});
