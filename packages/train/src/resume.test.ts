import '@tensorflow/tfjs-backend-cpu';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dispose, memory, Rng, setBackend, stateDict } from '@ashlar/tensor';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type EvaluationEvent,
  listCheckpoints,
  readCheckpoint,
  type StepEvent,
  type TrainEvent,
  train,
} from './index.ts';
import { fullRun } from './run.testing.ts';

const packageFolder = fileURLToPath(new URL('..', import.meta.url));
// Beside this package's dependencies, so that the bundle finds what it leaves external.
const child = join(packageFolder, 'node_modules', '.test', `child-${process.pid}.mjs`);
let root: string;

beforeAll(async () => {
  await setBackend('cpu');
  root = await mkdtemp(join(tmpdir(), 'ashlar-resume-'));
  await mkdir(join(packageFolder, 'node_modules', '.test'), { recursive: true });
  await build({
    entryPoints: [fileURLToPath(new URL('run-child.testing.ts', import.meta.url))],
    outfile: child,
    bundle: true,
    platform: 'node',
    format: 'esm',
    conditions: ['@ashlar/source'],
    external: ['@tensorflow/*', 'cli-progress'],
    logLevel: 'error',
  });
});

afterAll(async () => {
  await rm(root, { recursive: true, force: true });
  await rm(child, { force: true });
});

/** Starts the child and kills it after `milliseconds`; gives what it printed and how it ended. */
async function runChild(
  args: string[],
  options: { killAfter?: number; shell?: string } = {},
): Promise<{ output: string; code: number | null }> {
  const command = [process.execPath, child, ...args];
  const started =
    options.shell === undefined
      ? spawn(command[0], command.slice(1))
      : spawn('bash', ['-c', `${options.shell}; exec "$@"`, 'bash', ...command]);
  let output = '';
  started.stdout.on('data', (data) => {
    output += data;
    if (options.killAfter !== undefined && output === String(data))
      setTimeout(() => started.kill('SIGKILL'), options.killAfter);
  });
  let errors = '';
  started.stderr.on('data', (data) => {
    errors += data;
  });
  const code = await new Promise<number | null>((resolve) => started.on('close', resolve));
  if (code !== 0 && code !== 3 && code !== null) throw new Error(errors);
  return { output, code };
}

type Numbers = Omit<StepEvent, 'seconds' | 'tokensPerSecond'> | Omit<EvaluationEvent, 'seconds'>;

/** What must not depend on interruptions: losses, rates, norms and evaluations, without the times. */
function numbers(events: readonly TrainEvent[]): Numbers[] {
  return events.flatMap((event): Numbers[] => {
    if (event.type === 'step') {
      const { seconds, tokensPerSecond, ...rest } = event;
      return [rest];
    }
    if (event.type !== 'evaluation') return [];
    const { seconds, ...rest } = event;
    return [rest];
  });
}

async function collect(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const all: TrainEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

async function readLog(path: string): Promise<TrainEvent[]> {
  return (await readFile(path, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

async function tensorsOf(folder: string): Promise<Record<string, Record<string, number[]>>> {
  const [newest] = await listCheckpoints(folder);
  const checkpoint = await readCheckpoint(newest.path);
  const values = Object.entries(checkpoint.tensors).map(([group, tensors]) => {
    const entries = [...tensors].map(([name, t]) => [name, Array.from(t.dataSync())]);
    dispose([...tensors.values()]);
    return [group, Object.fromEntries(entries)];
  });
  return Object.fromEntries(values);
}

describe('resume', () => {
  it('continues bit for bit after kill -9 at random moments', async () => {
    const expected = await collect(train(fullRun(join(root, 'whole'))));
    const [folder, log] = [join(root, 'killed'), join(root, 'killed.jsonl')];
    const rng = new Rng('kills');
    let kills = 0;
    for (let done = false; !done; ) {
      const killAfter = kills < 6 ? rng.integer(0, 120) : undefined;
      const { code } = await runChild([folder, log], { killAfter });
      done = code === 0;
      if (!done) kills++;
      for (const { path } of await listCheckpoints(folder)) {
        const { tensors } = await readCheckpoint(path);
        for (const group of Object.values(tensors)) dispose([...group.values()]);
      }
    }
    expect(kills).toBeGreaterThanOrEqual(3);
    expect(numbers(await readLog(log))).toEqual(numbers(expected));
    expect(await tensorsOf(folder)).toEqual(await tensorsOf(join(root, 'whole')));
    expect((await readdir(folder)).sort()).toEqual(['step-000039', 'step-000040']);
  });

  it('continues bit for bit in the same process too, and after break, and leaks nothing', async () => {
    const folder = join(root, 'broken');
    const expected = numbers(await collect(train(fullRun(join(root, 'whole-again')))));
    const seen: TrainEvent[] = [];
    for (const stopAt of [7, 13, 14, 40]) {
      const options = fullRun(folder);
      stateDict(options.model);
      const before = memory().numTensors;
      for await (const event of train(options)) {
        if (event.type === 'start') seen.splice(seen.findIndex(({ step }) => step > event.step) >>> 0);
        seen.push(event);
        if (event.type === 'step' && event.step === stopAt) break;
      }
      expect(memory().numTensors).toBe(before);
    }
    expect(numbers(seen)).toEqual(expected.slice(0, numbers(seen).length));
    expect(numbers(seen).at(-1)?.step).toBe(40);
  });

  it('does nothing more when the run was over, and goes on when it is made longer', async () => {
    const folder = join(root, 'longer');
    const expected = await collect(train(fullRun(join(root, 'long'), { steps: 16 })));
    await collect(train(fullRun(folder, { steps: 8 })));
    const again = await collect(train(fullRun(folder, { steps: 8 })));
    expect(again.map(({ type }) => type)).toEqual(['start', 'stopped', 'end']);
    const longer = await collect(train(fullRun(folder, { steps: 16 })));
    expect(longer[0]).toMatchObject({ type: 'start', step: 8, resumedFrom: join(folder, 'step-000008') });
    expect(numbers(longer)).toEqual(numbers(expected).filter(({ step }) => step > 8));
  });

  it('keeps counting the patience of early stopping', async () => {
    const options = { evaluate: undefined, earlyStopping: undefined };
    const stopping = (folder: string): Parameters<typeof fullRun>[1] => ({
      ...options,
      evaluate: { ...fullRun(folder).evaluate!, everySteps: 2 },
      earlyStopping: { patience: 3, minDelta: 100 },
    });
    const expected = await collect(train(fullRun(join(root, 'patient'), stopping(root))));
    const folder = join(root, 'patient-broken');
    for await (const event of train(fullRun(folder, stopping(root)))) {
      if (event.type === 'checkpoint' && event.step === 6) break;
    }
    const resumed = await collect(train(fullRun(folder, stopping(root))));
    expect(expected.at(-2)).toEqual({ type: 'stopped', step: 8, reason: 'early-stopping' });
    expect(resumed.at(-2)).toEqual(expected.at(-2));
  });

  it('passes over a damaged checkpoint with a warning, and replaces it', async () => {
    const folder = join(root, 'damaged');
    const expected = await collect(train(fullRun(folder, { steps: 9 })));
    const model = join(folder, 'step-000009', 'model.safetensors');
    const bytes = await readFile(model);
    bytes[bytes.length - 3] ^= 0x10;
    await writeFile(model, bytes);
    const resumed = await collect(train(fullRun(folder, { steps: 9 })));
    expect(resumed[0]).toMatchObject({ step: 6, resumedFrom: join(folder, 'step-000006') });
    expect(resumed[1]).toMatchObject({ type: 'warning', step: 9 });
    expect(resumed[1]).toHaveProperty(
      'message',
      expect.stringMatching(/model\.safetensors: this checkpoint is damaged/),
    );
    expect(numbers(resumed)).toEqual(numbers(expected).filter(({ step }) => step > 6));
    expect(await collect(train(fullRun(folder, { steps: 9 })))).toHaveLength(3);
  });

  it('names a clear error for each thing that does not fit', async () => {
    const folder = join(root, 'fit');
    await collect(train(fullRun(folder, { steps: 3 })));
    const fails = async (changes: Parameters<typeof fullRun>[1], name: string, message: RegExp): Promise<void> => {
      const error: Error = await collect(train(fullRun(folder, changes))).then(
        () => new Error('It did not fail.'),
        (e) => e,
      );
      expect(error.message).toMatch(message);
      expect(error.name).toBe(name);
    };
    await fails({ resume: false }, 'ConfigError', /has the checkpoints of a run already, up to step 3/);
    await fails({ config: { seed: 4 } }, 'ConfigError', /another config: seed was 3, is 4/);
    await fails({ rngs: { extra: new Rng(1) } }, 'FormatError', /other random generators; they differ in extra/);
    const checkpoint = { folder, parameters: 'all' as const };
    const frozen = fullRun(folder);
    frozen.model.getSubmodule('fc1').freeze();
    await fails(
      { ...frozen, ema: undefined },
      'FormatError',
      /does not fit what trains in this model\.\n {2}unexpected: fc1\.bias, fc1\.weight/,
    );
    await fails({ ...frozen, ema: undefined, checkpoint }, 'FormatError', /optimizer\.safetensors does not fit/);
    for (const step of await readdir(folder)) await writeFile(join(folder, step, 'SHA256SUMS'), 'nonsense');
    await fails(
      {},
      'FormatError',
      /No checkpoint in .*\n.*SHA256SUMS: this checkpoint is damaged: its line "nonsense"/,
    );
  });

  it('leaves earlier checkpoints and one clear error when the disk is full', async () => {
    const folder = join(root, 'full');
    await collect(train(fullRun(folder, { steps: 3 })));
    // Every file beyond 1 KiB fails as on a full disk.
    const { output, code } = await runChild([folder], { shell: 'trap "" XFSZ; ulimit -f 1' });
    expect(code).toBe(3);
    expect(output).toMatch(/AshlarError: .*step-000006.*cannot be written: .*(larger|full)/);
    expect(await readdir(folder)).toEqual(['step-000003']);
    expect(await collect(train(fullRun(folder, { steps: 4 })))).toHaveLength(6);
  });

  it('finds out before the first step that the folder cannot be written', async () => {
    await writeFile(join(root, 'file'), '');
    const inFile = collect(train(fullRun(join(root, 'file', 'folder'))));
    await expect(inFile).rejects.toThrow(/folder: .*a part of the path is a file/);
  });

  // Nothing is read-only to the superuser.
  it.skipIf(process.getuid?.() === 0)('says that a folder is read-only', async () => {
    await mkdir(join(root, 'readonly'), { mode: 0o555 });
    const inReadOnly = collect(train(fullRun(join(root, 'readonly', 'run'))));
    await expect(inReadOnly).rejects.toThrow(/run: .*the folder is not writable/);
  });
});
