import type { SingleBar } from 'cli-progress';
import type { TrainEvent } from './events.ts';

/** Where progress goes: a terminal gets a bar, anything else plain lines. `process.stderr` is one. */
export interface ProgressStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface ProgressOptions {
  /** Default `process.stderr`, in the browser `console`. */
  stream?: ProgressStream;
  /** Shown before the numbers. */
  label?: string;
  /** Seconds between plain lines. Default 5. */
  everySeconds?: number;
}

/** Shows how training goes and passes every event on: a bar in a terminal, a line every few seconds elsewhere. */
export async function* progress<E extends TrainEvent>(
  events: AsyncIterable<E>,
  options: ProgressOptions = {},
): AsyncGenerator<E, void, void> {
  const { stream = defaultStream(), label = '', everySeconds = 5 } = options;
  const display = stream.isTTY ? new Bar(stream, label) : new Lines(stream, label, everySeconds);
  try {
    for await (const event of events) {
      await display.show(event);
      yield event;
    }
  } finally {
    display.close();
  }
}

function defaultStream(): ProgressStream {
  const stderr = globalThis.process?.stderr;
  return stderr ?? { write: (text: string) => console.log(text.trimEnd()) };
}

class Lines {
  readonly #stream: ProgressStream;
  readonly #prefix: string;
  readonly #everySeconds: number;
  #shownAt = -Infinity;
  #total: number | null = null;

  constructor(stream: ProgressStream, label: string, everySeconds: number) {
    this.#stream = stream;
    this.#prefix = label === '' ? '' : `${label} `;
    this.#everySeconds = everySeconds;
  }

  show(event: TrainEvent): void {
    if (event.type === 'start') this.#total = event.totalSteps;
    if (event.type === 'step') {
      const now = performance.now() / 1000;
      if (event.step !== this.#total && now - this.#shownAt < this.#everySeconds) return;
      this.#shownAt = now;
    }
    this.#stream.write(`${this.#prefix}${describeEvent(event, this.#total)}\n`);
  }

  close(): void {}
}

class Bar {
  readonly #stream: ProgressStream;
  readonly #label: string;
  #bar: SingleBar | undefined;
  #evaluation = '';

  constructor(stream: ProgressStream, label: string) {
    this.#stream = stream;
    this.#label = label === '' ? '' : `${label} `;
  }

  async show(event: TrainEvent): Promise<void> {
    if (event.type === 'start') {
      const { default: cliProgress } = await import('cli-progress');
      const counter = event.totalSteps === null ? 'step {value}' : '{bar} {value}/{total} · {eta_formatted} left';
      this.#bar = new cliProgress.SingleBar(
        {
          format: `${this.#label}${counter} · {status}`,
          stream: this.#stream as NodeJS.WritableStream,
          hideCursor: true,
        },
        cliProgress.Presets.shades_classic,
      );
      this.#bar.start(event.totalSteps ?? event.step, event.step, { status: '' });
    } else if (event.type === 'step') {
      if (this.#bar !== undefined && event.step > this.#bar.getTotal()) this.#bar.setTotal(event.step);
      this.#bar?.update(event.step, { status: `${describeStep(event)}${this.#evaluation}` });
    } else if (event.type === 'evaluation') {
      this.#evaluation = ` · ${describeEvaluation(event)}`;
    } else if (event.type === 'warning' || event.type === 'end') {
      if (event.type === 'end') this.close();
      this.#stream.write(`${event.type === 'warning' ? '\n' : ''}${this.#label}${describeEvent(event, null)}\n`);
    }
  }

  close(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** One line on an event, for people. */
export function describeEvent(event: TrainEvent, totalSteps: number | null): string {
  switch (event.type) {
    case 'start': {
      const from = event.resumedFrom === undefined ? '' : `, continuing from ${event.resumedFrom}`;
      const share = ((100 * event.trainable) / event.parameters).toPrecision(3);
      return `training ${count(event.trainable)} of ${count(event.parameters)} parameters (${share} %)${from}`;
    }
    case 'step':
      return `step ${event.step}${totalSteps === null ? '' : `/${totalSteps}`} · ${describeStep(event)}`;
    case 'evaluation':
      return `step ${event.step} · ${describeEvaluation(event)}`;
    case 'checkpoint':
      return `step ${event.step} · checkpoint ${event.path}`;
    case 'warning':
      return `warning: ${event.message}`;
    case 'stopped':
      return `step ${event.step} · ${event.reason}`;
    case 'end': {
      const best = event.best === undefined ? '' : ` · best evaluation loss ${event.best.toFixed(4)}`;
      return `${event.step} steps · ${event.seconds.toFixed(1)} s${best}`;
    }
  }
}

function describeStep(event: Extract<TrainEvent, { type: 'step' }>): string {
  const rate = event.learningRate === undefined ? '' : ` · lr ${event.learningRate.toExponential(2)}`;
  const speed = event.tokensPerSecond === undefined ? '' : ` · ${count(event.tokensPerSecond)} tokens/s`;
  return `loss ${event.loss.toFixed(4)}${rate}${speed}`;
}

function describeEvaluation(event: Extract<TrainEvent, { type: 'evaluation' }>): string {
  const perplexity = event.perplexity === undefined ? '' : ` (perplexity ${event.perplexity.toFixed(2)})`;
  return `evaluation loss ${event.loss.toFixed(4)}${perplexity}`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
