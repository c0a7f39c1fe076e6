import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonl, progress, type TrainEvent } from './index.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ashlar-events-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const step = (n: number): TrainEvent => ({
  type: 'step',
  step: n,
  epoch: 0,
  loss: 1 / n,
  gradNorm: 1,
  seconds: 0.1,
  learningRate: 0.001,
  tokensPerSecond: 12345,
});
const start = (n: number): TrainEvent => ({
  type: 'start',
  step: n,
  parameters: 2000,
  trainable: 10,
  totalSteps: 4,
  ...(n > 0 && { resumedFrom: `run/step-00000${n}` }),
});
const evaluation: TrainEvent = {
  type: 'evaluation',
  step: 4,
  loss: 2,
  perplexity: Math.exp(2),
  metrics: {},
  best: 2,
  improved: true,
  seconds: 1,
};
const ending: TrainEvent[] = [
  { type: 'stopped', step: 4, reason: 'finished' },
  { type: 'end', step: 4, loss: 0.25, best: 2, seconds: 3.21 },
];

async function* stream(...events: TrainEvent[]): AsyncGenerator<TrainEvent> {
  yield* events;
}

async function collect(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const all: TrainEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe('jsonl', () => {
  const read = async (file: string): Promise<TrainEvent[]> =>
    (await readFile(file, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));

  it('passes events on and writes them, cutting off what a resumed run does again', async () => {
    const file = join(root, 'log.jsonl');
    const first = [start(0), step(1), step(2), step(3)];
    expect(await collect(jsonl(stream(...first), file))).toEqual(first);
    expect(await read(file)).toEqual(first);
    await writeFile(file, `${await readFile(file, 'utf8')}{"type":"st`);
    await collect(jsonl(stream(start(2), step(3), step(4), ...ending), file));
    expect(await read(file)).toEqual([start(0), step(1), step(2), start(2), step(3), step(4), ...ending]);
    await collect(jsonl(stream(start(0), step(1)), file));
    expect(await read(file)).toEqual([start(0), step(1)]);
  });

  it('ends the run when the consumer leaves, and names a file that cannot be written', async () => {
    let released = false;
    async function* run(): AsyncGenerator<TrainEvent> {
      try {
        for (let i = 1; ; i++) yield step(i);
      } finally {
        released = true;
      }
    }
    for await (const event of progress(jsonl(run(), join(root, 'left.jsonl')), { stream: { write: () => true } })) {
      if (event.step === 3) break;
    }
    expect(released).toBe(true);
    await expect(collect(jsonl(stream(step(1)), join(root, 'no', 'log.jsonl')))).rejects.toThrow(
      /log\.jsonl: the log cannot be written: the folder does not exist/,
    );
  });
});

describe('progress', () => {
  const show = async (isTTY: boolean, everySeconds: number, events: TrainEvent[]): Promise<string> => {
    let text = '';
    const terminal = {
      write: (part: string) => {
        text += part;
        return true;
      },
      isTTY,
      columns: 200,
      on: () => undefined,
      cursorTo: () => undefined,
      clearLine: () => undefined,
      moveCursor: () => undefined,
    };
    expect(await collect(progress(stream(...events), { stream: terminal, label: 'tiny', everySeconds }))).toEqual(
      events,
    );
    return text;
  };
  const events = [start(0), step(1), step(2), step(3), step(4), evaluation, ...ending];

  it('writes plain lines where there is no terminal, at most one every few seconds and the last', async () => {
    const text = await show(false, 1000, events);
    expect(text.split('\n')).toEqual([
      'tiny training 10 of 2,000 parameters (0.500 %)',
      'tiny step 1/4 · loss 1.0000 · lr 1.00e-3 · 12,345 tokens/s',
      'tiny step 4/4 · loss 0.2500 · lr 1.00e-3 · 12,345 tokens/s',
      'tiny step 4 · evaluation loss 2.0000 (perplexity 7.39)',
      'tiny step 4 · finished',
      'tiny 4 steps · 3.2 s · best evaluation loss 2.0000',
      '',
    ]);
    expect((await show(false, 0, events)).split('\n')).toHaveLength(9);
  });

  it('draws a bar in a terminal', async () => {
    const text = await show(true, 5, events);
    expect(text).toMatch(/tiny .*4\/4 .*loss 0\.2500/);
    expect(text.trimEnd()).toMatch(/tiny 4 steps · 3\.2 s · best evaluation loss 2\.0000$/);
  });
});
