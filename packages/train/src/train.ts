import type { Batch } from './batches.ts';
import type { StoppedEvent, TrainEvent } from './events.ts';
import { memoryUsage } from './memory-usage.ts';
import { saveModes } from './modes.ts';
import { checkTrainOptions, type TrainOptions } from './options.ts';
import { TrainingRun } from './training-run.ts';

/**
 * Trains a model, as a stream of events that pulls the training along: each step happens when its event is asked for.
 *
 * Leaving the loop (`break`) ends training at once and releases everything; an aborted `signal` ends it with a last
 * checkpoint. The model keeps the weights that it has then.
 *
 * With `checkpoint` and `resume`, a run that was stopped or killed continues with the very numbers of one that was not.
 * For that, all that varies must be in the options: generators as module properties or `rngs`, batches that know their
 * position (or give the same ones again), state in `objective` and `callbacks`.
 * @throws ConfigError for an option; while running NumericsError naming the step and the first bad tensor where a loss,
 *   gradient or parameter is not finite, FormatError for checkpoints, AshlarError where one cannot be written.
 */
export function train<B extends Batch>(options: TrainOptions<B>): AsyncGenerator<TrainEvent, void, void> {
  checkTrainOptions(options);
  return events(options);
}

async function* events<B extends Batch>(options: TrainOptions<B>): AsyncGenerator<TrainEvent, void, void> {
  const { model, evaluate, checkpoint, callbacks = [] } = options;
  const began = performance.now();
  const emit = async <E extends TrainEvent>(event: E): Promise<E> => {
    for (const callback of callbacks) await callback.onEvent(event);
    return event;
  };
  const isDue = (step: number, everySteps = Infinity): boolean => step % everySteps === 0;
  const restoreModes = saveModes(model);
  const run = new TrainingRun(options);
  try {
    model.train();
    const { resumedFrom, warnings = [] } = checkpoint === undefined ? {} : await run.open(checkpoint);
    yield await emit({
      type: 'start',
      step: run.step,
      parameters: sizeOf(model.parameters()),
      trainable: sizeOf(model.trainableParameters().values()),
      totalSteps: run.totalSteps,
      ...(resumedFrom !== undefined && { resumedFrom }),
    });
    for (const warning of warnings) yield await emit(warning);
    if (evaluate?.atStart && run.evaluatedAt === undefined && run.step === 0) yield await emit(await run.evaluate());

    let reason: StoppedEvent['reason'] | undefined = run.stopReason;
    while (reason === undefined) {
      const step = await run.trainStep();
      if (step === undefined) {
        reason = 'finished';
        break;
      }
      for (const warning of run.takeWarnings()) yield await emit(warning);
      yield await emit(step);
      if (evaluate !== undefined && isDue(run.step, evaluate.everySteps)) yield await emit(await run.evaluate());
      reason = run.stopReason;
      if (reason === undefined && checkpoint !== undefined && isDue(run.step, checkpoint.everySteps)) {
        const saved = await run.save(checkpoint);
        if (saved !== undefined) yield await emit(saved);
      }
    }

    if (evaluate !== undefined && reason !== 'cancelled' && run.evaluatedAt !== run.step) {
      yield await emit(await run.evaluate());
    }
    const saved = checkpoint === undefined ? undefined : await run.save(checkpoint);
    if (saved !== undefined) yield await emit(saved);
    yield await emit({ type: 'stopped', step: run.step, reason });
    const peakMemoryBytes = memoryUsage()?.peakBytes;
    yield await emit({
      type: 'end',
      step: run.step,
      ...(run.loss !== undefined && { loss: run.loss }),
      ...(run.best.best !== Infinity && { best: run.best.best }),
      seconds: (performance.now() - began) / 1000,
      ...(peakMemoryBytes !== undefined && { peakMemoryBytes }),
    });
  } finally {
    restoreModes();
    await run.close();
  }
}

function sizeOf(parameters: Iterable<{ readonly size: number }>): number {
  let total = 0;
  for (const { size } of parameters) total += size;
  return total;
}
