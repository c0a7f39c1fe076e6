import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, writeFileAtomic } from '@ashlar/tensor';
import type { EvaluationEvent, TrainEvent } from '@ashlar/train';
import type { MethodResult } from './report/page.ts';

const RESULT_FILE = 'result.json';

/** Gathers what the report shows of one method from the events of its training. */
export class ResultRecorder {
  readonly #name: string;
  #parameters = 0;
  readonly #training: { x: number; y: number }[] = [];
  readonly #evaluations: EvaluationEvent[] = [];
  #smoothed: number | undefined;
  #seconds = 0;
  #peakBytes = 0;

  constructor(name: string) {
    this.#name = name;
  }

  add(event: TrainEvent): void {
    if (event.type === 'start') this.#parameters = event.trainable;
    if (event.type === 'evaluation') this.#evaluations.push(event);
    if (event.type === 'step') {
      this.#smoothed = this.#smoothed === undefined ? event.loss : 0.9 * this.#smoothed + 0.1 * event.loss;
      this.#training.push({ x: event.step, y: this.#smoothed });
    }
    if (event.type === 'end') {
      this.#seconds = event.seconds;
      this.#peakBytes = event.peakMemoryBytes ?? 0;
    }
  }

  result(sample: string): MethodResult {
    const first = this.#evaluations[0];
    const last = this.#evaluations[this.#evaluations.length - 1];
    return {
      name: this.#name,
      parameters: this.#parameters,
      perplexityBefore: first?.perplexity ?? Number.NaN,
      perplexityAfter: last?.perplexity ?? Number.NaN,
      seconds: this.#seconds,
      peakMemoryMb: this.#peakBytes / 2 ** 20,
      sample,
      training: this.#training,
      heldOut: this.#evaluations.map(({ step, loss }) => ({ x: step, y: loss })),
    };
  }
}

export interface SavedResult {
  result: MethodResult;
  prompt: string;
  sampleBefore: string;
}

/** Writes what a run of `adapt` measured beside its adapter. */
export async function saveResult(folder: string, saved: SavedResult): Promise<void> {
  await writeFileAtomic(join(folder, RESULT_FILE), `${JSON.stringify(saved)}\n`);
}

export async function readResult(folder: string): Promise<SavedResult> {
  const path = join(folder, RESULT_FILE);
  try {
    return JSON.parse(await readFile(path, 'utf8')) as SavedResult;
  } catch (error) {
    throw new FormatError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
