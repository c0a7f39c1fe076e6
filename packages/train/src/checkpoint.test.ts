import '@tensorflow/tfjs-backend-cpu';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dispose, FormatError, memory, setBackend, tensor } from '@ashlar/tensor';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Checkpoint, disposeCheckpoint, listCheckpoints, readCheckpoint, writeCheckpoint } from './checkpoint.ts';

let root: string;
const weights = (value: number): Checkpoint => ({
  tensors: { model: new Map([['h.0.weight', tensor([value, 0.1, Number.MIN_VALUE])]]) },
  state: { step: value, best: 0.1 + 0.2 },
});

async function write(folder: string, step: number, keep = 2): Promise<string> {
  const checkpoint = weights(step);
  const path = await writeCheckpoint(folder, step, checkpoint, { keep });
  disposeCheckpoint(checkpoint);
  return path;
}

beforeAll(async () => {
  await setBackend('cpu');
  root = await mkdtemp(join(tmpdir(), 'ashlar-checkpoint-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

describe('checkpoints', () => {
  it('come back as they were, and leak nothing', async () => {
    const before = memory().numTensors;
    const path = await write(join(root, 'whole'), 5);
    const { tensors, state } = await readCheckpoint(path);
    expect(state).toEqual({ step: 5, best: 0.1 + 0.2 });
    expect(Array.from(tensors.model.get('h.0.weight')!.dataSync())).toEqual([5, Math.fround(0.1), 0]);
    dispose([...tensors.model.values()]);
    expect(memory().numTensors).toBe(before);
    expect((await readdir(path)).sort()).toEqual(['SHA256SUMS', 'model.safetensors', 'state.json']);
  });

  it('keep the newest, and sweep up what a kill left', async () => {
    const folder = join(root, 'pruned');
    await write(folder, 1);
    await mkdir(join(folder, 'step-000002.tmp'));
    await writeFile(join(folder, 'step-000002.tmp', 'model.safetensors'), 'half');
    await mkdir(join(folder, 'step-000000.old.tmp'));
    await writeFile(join(folder, 'notes.txt'), 'mine');
    expect(await listCheckpoints(folder)).toEqual([{ step: 1, path: join(folder, 'step-000001') }]);
    for (const step of [2, 3, 1_234_567]) await write(folder, step);
    expect((await readdir(folder)).sort()).toEqual(['notes.txt', 'step-000003', 'step-1234567']);
    expect((await listCheckpoints(folder)).map(({ step }) => step)).toEqual([1_234_567, 3]);
    expect(await listCheckpoints(join(root, 'nowhere'))).toEqual([]);
  });

  it('replace a damaged one of the same step, and do not count damaged newer ones against good ones', async () => {
    const folder = join(root, 'replaced');
    for (const step of [1, 2, 3]) await write(folder, step, 9);
    await write(folder, 1, 1);
    expect((await listCheckpoints(folder)).map(({ step }) => step)).toEqual([3, 2, 1]);
    await writeFile(join(folder, 'step-000002', 'state.json'), 'damaged');
    const { tensors, state } = await readCheckpoint(await write(folder, 2, 1));
    expect(state.step).toBe(2);
    dispose([...tensors.model.values()]);
  });

  it('give a FormatError naming the file, or what was saved, for any damage', async () => {
    const path = await write(join(root, 'fuzzed'), 7);
    const files = await readdir(path);
    const originals = new Map(await Promise.all(files.map(async (f) => [f, await readFile(join(path, f))] as const)));
    const before = memory().numTensors;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        fc.constantFrom('flip', 'cut', 'grow', 'remove'),
        async (file, place, bits, damage) => {
          const bytes = Uint8Array.from(originals.get(file)!);
          const at = place % bytes.length;
          if (damage === 'flip') bytes[at] ^= bits;
          const changed = damage === 'cut' ? bytes.subarray(0, at) : damage === 'grow' ? [...bytes, bits] : bytes;
          if (damage === 'remove') await rm(join(path, file));
          else await writeFile(join(path, file), Uint8Array.from(changed));
          const result = await readCheckpoint(path).catch((error: Error) => error);
          await writeFile(join(path, file), originals.get(file)!);
          if (result instanceof Error) {
            expect(result).toBeInstanceOf(FormatError);
            expect(result.message).toContain(path);
          } else {
            // Only a change that the list of checksums does not care about, such as its last line's end.
            expect(file).toBe('SHA256SUMS');
            expect(result.state).toEqual({ step: 7, best: 0.1 + 0.2 });
            disposeCheckpoint(result);
          }
        },
      ),
      { numRuns: 150 },
    );
    expect(memory().numTensors).toBe(before);
  });
});
