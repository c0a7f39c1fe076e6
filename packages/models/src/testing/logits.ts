import { KeyValueCache } from '@ashlar/nn';
import { type Tensor, tensor2d, tidy } from '@ashlar/tensor';
import { expect } from 'vitest';
import type { CausalLM, CausalLMInput } from '../causal-lm.ts';

/** `length` token ids below `vocab`, without a pattern. */
export function idsOf(length: number, vocab: number, start = 1): number[] {
  return Array.from({ length }, (_, i) => (start + 7 * i * i + 3 * i) % vocab);
}

export function logitsOf(model: CausalLM, batch: readonly number[][], input: CausalLMInput = {}): number[][][] {
  return tidy(() => {
    const ids = tensor2d([...batch], [batch.length, batch[0].length], 'int32');
    return (model.apply(ids, input) as Tensor).arraySync() as number[][][];
  });
}

/** The logits of one text, given to the model in `pieces` that add up to it. */
export function cachedLogits(model: CausalLM, ids: readonly number[], pieces: readonly number[]): number[][][] {
  const cache = new KeyValueCache();
  let from = 0;
  const logits = pieces.flatMap((size) => {
    const piece = ids.slice(from, from + size);
    from += size;
    return logitsOf(model, [piece], { cache })[0];
  });
  cache.dispose();
  return [logits];
}

export function expectClose(actual: number[][][], expected: number[][][], tolerance = 1e-4): void {
  const [a, e] = [actual.flat(2), expected.flat(2)];
  expect(actual.map((rows) => rows.length)).toEqual(expected.map((rows) => rows.length));
  expect(a.length).toBe(e.length);
  expect(Math.max(...a.map((x, i) => Math.abs(x - e[i])))).toBeLessThan(tolerance);
}
