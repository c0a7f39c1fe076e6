import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, memory, setBackend } from '@ashlar/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { evaluationBatches } from './evaluation-batches.ts';

beforeAll(() => setBackend('cpu'));

describe('evaluationBatches', () => {
  it('fill up the last window and the last batch with labels -100', () => {
    const tokens = Uint16Array.from([5, 6, 7, 8, 9, 10]);
    const batches = Array.from(evaluationBatches(tokens, { batchSize: 2, sequenceLength: 2, padId: 1 }), (batch) => ({
      inputIds: batch.inputIds.arraySync(),
      labels: batch.labels.arraySync(),
    }));
    expect(batches).toEqual([
      {
        inputIds: [
          [5, 6],
          [7, 8],
        ],
        labels: [
          [6, 7],
          [8, 9],
        ],
      },
      {
        inputIds: [
          [9, 1],
          [1, 1],
        ],
        labels: [
          [10, -100],
          [-100, -100],
        ],
      },
    ]);
  });

  it('predict every token but the first exactly once, in order, in batches of one shape, every time', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 100 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 7 }),
        (count, batchSize, sequenceLength) => {
          const tokens = Int32Array.from({ length: count }, (_, i) => i);
          const batches = evaluationBatches(tokens, { batchSize, sequenceLength });
          const rows = Math.min(batchSize, Math.ceil((count - 1) / sequenceLength));
          const before = memory().numTensors;
          for (let pass = 0; pass < 2; pass++) {
            const predicted: number[] = [];
            let given = 0;
            for (const { inputIds, labels } of batches) {
              given++;
              expect(inputIds.shape).toEqual([rows, sequenceLength]);
              const inputs = inputIds.dataSync();
              labels.dataSync().forEach((label, i) => {
                if (label === -100) return;
                expect(label).toBe(inputs[i] + 1);
                predicted.push(label);
              });
              inputIds.dispose();
              labels.dispose();
            }
            expect(given).toBe(batches.length);
            expect(predicted).toEqual(Array.from(tokens.subarray(1)));
          }
          expect(memory().numTensors).toBe(before);
        },
      ),
    );
  });

  it('need something to predict', () => {
    expect(() => evaluationBatches(Int32Array.of(1), { batchSize: 1, sequenceLength: 1 })).toThrow(ConfigError);
    expect(() => evaluationBatches(Int32Array.of(1), { batchSize: 1, sequenceLength: 1 })).toThrow(
      'there are 1 tokens; at least 2 are needed',
    );
    expect(() => evaluationBatches(Int32Array.of(1, 2), { batchSize: 0, sequenceLength: 1 })).toThrow('batchSize is 0');
    expect(() => evaluationBatches(Int32Array.of(1, 2), { batchSize: 1, sequenceLength: 0 })).toThrow(
      'sequenceLength is 0',
    );
  });
});
