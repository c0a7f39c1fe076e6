import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { getThreads } from '@ashlar/backend-ort';
import type { Contestant } from './define-bench.ts';

/** What a peer answers to each line on its standard input: a step, done. */
interface Answer {
  loss: number;
  peakMiB: number;
}

const folder = fileURLToPath(new URL('../peers/', import.meta.url));

/** Python with PyTorch: `ASHLAR_PYTHON`, or `python3`. */
const python = process.env.ASHLAR_PYTHON || 'python3';

/**
 * A program of `peers/` as a contestant: a process of its own, which does one training step when told to, so that
 * neither libraries nor memory mix. The losses of the first steps are columns: they must agree.
 */
export function peer(script: string, ...args: string[]): Contestant & { stop(): void } {
  const command = script.endsWith('.py') ? python : process.execPath;
  let child: ChildProcess | undefined;
  let lines: AsyncIterator<string> | undefined;
  let errors = '';
  const losses: number[] = [];
  let peakMiB = 0;
  let ownNotes: Record<string, string | number> = {};

  async function next<T>(): Promise<T> {
    const { value, done } = await lines!.next();
    if (!done) return JSON.parse(value) as T;
    const said = errors.trim().split('\n');
    throw new Error(said.find((line) => /Error:/.test(line)) ?? said.at(-1));
  }
  async function start(): Promise<void> {
    const env = { ...process.env, ASHLAR_THREADS: String(getThreads()) };
    child = spawn(command, [script, ...args], { cwd: folder, env, stdio: ['pipe', 'pipe', 'pipe'] });
    child.on('error', (error) => {
      errors += error.message;
    });
    child.stdin!.on('error', () => {});
    child.stderr!.on('data', (data) => {
      errors += data;
    });
    const reader: Interface = createInterface({ input: child.stdout! });
    lines = reader[Symbol.asyncIterator]();
    ownNotes = (await next<{ notes?: typeof ownNotes }>()).notes ?? {};
  }
  return {
    async prepare() {
      if (child === undefined) await start();
    },
    async run() {
      child!.stdin!.write('\n');
      const answer = await next<Answer>();
      losses.push(answer.loss);
      peakMiB = answer.peakMiB;
    },
    notes: () => ({
      ...ownNotes,
      ...Object.fromEntries(losses.slice(0, 2).map((loss, i) => [`loss of step ${i + 1}`, loss.toFixed(5)])),
      'peak MiB': peakMiB,
    }),
    stop() {
      child?.stdin?.end();
      child?.kill();
    },
  };
}

/** As `peer`, but every run is a process of its own: start, imports, first step, end. */
export function freshPeer(script: string, ...args: string[]): Contestant {
  let last = peer(script, ...args);
  return {
    async run() {
      last = peer(script, ...args);
      await last.prepare!();
      await last.run();
      last.stop();
    },
    notes: () => last.notes!(),
  };
}

/** Contestants that are peers, and how to end them. */
export function peers<T extends Record<string, ReturnType<typeof peer>>>(
  contestants: T,
): { contestants: T; cleanUp(): void } {
  return {
    contestants,
    cleanUp() {
      for (const each of Object.values(contestants)) each.stop();
    },
  };
}
