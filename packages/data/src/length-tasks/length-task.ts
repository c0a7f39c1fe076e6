import { ConfigError, checkInteger, closestNames, quote, type Rng } from '@ashlar/tensor';
import { type Addition, addition } from './addition.ts';
import { copy, copyTwice, repeat, repeatDouble, replace, type Sequences } from './copy.ts';
import { type Lego, lego, legoPermuted } from './lego.ts';
import { type ModularSum, modularSum } from './modular-sum.ts';
import { type Parity, parity } from './parity.ts';
import { pcfg } from './pcfg.ts';
import { type Polynomial, polynomial } from './polynomial.ts';
import { reverse, reverseCopy, reverseTwice } from './reverse.ts';
import { scan } from './scan.ts';
import { type Scratchpad, writeScratchpad } from './scratchpad.ts';
import { type Sorting, type SymbolSorting, sortNumbers, sortSymbols } from './sorting.ts';
import type { LengthTask } from './task.ts';

/** What a problem of each task consists of. */
export interface LengthTaskInstances {
  readonly addition: Addition;
  readonly sum: ModularSum;
  readonly parity: Parity;
  readonly polynomial: Polynomial;
  readonly lego: Lego;
  readonly 'lego-permuted': Lego;
  readonly 'sort-symbols': SymbolSorting;
  readonly 'sort-numbers': Sorting<number>;
  readonly repeat: Sequences;
  readonly 'repeat-double': Sequences;
  readonly replace: Sequences;
  readonly copy: Sequences;
  readonly 'copy-twice': Sequences;
  readonly reverse: Sequences;
  readonly 'reverse-twice': Sequences;
  readonly 'reverse-copy': Sequences;
  readonly scan: Sequences;
  readonly pcfg: Sequences;
}

export type LengthTaskName = keyof LengthTaskInstances;

/** The tasks of the length generalization study (Kazemnejad et al. 2023, arXiv 2305.19466), by name. */
export const LENGTH_TASKS: { readonly [N in LengthTaskName]: LengthTask<LengthTaskInstances[N]> } = {
  addition,
  sum: modularSum,
  parity,
  polynomial,
  lego,
  'lego-permuted': legoPermuted,
  'sort-symbols': sortSymbols,
  'sort-numbers': sortNumbers,
  repeat,
  'repeat-double': repeatDouble,
  replace,
  copy,
  'copy-twice': copyTwice,
  reverse,
  'reverse-twice': reverseTwice,
  'reverse-copy': reverseCopy,
  scan,
  pcfg,
};

/** A problem as text: the model reads `prompt` and is to write `target`. */
export interface LengthProblem {
  readonly prompt: string;
  readonly target: string;
  /** What `extractAnswer` finds in `target`. */
  readonly answer: string;
}

export interface LengthExample extends LengthProblem {
  readonly length: number;
}

export interface LengthTaskOptions {
  readonly minLength: number;
  readonly maxLength: number;
  /** Examples; as many of each length where they divide evenly. */
  readonly count: number;
  /** Default false. */
  readonly scratchpad?: Scratchpad;
  /** Different symbols, for copying, reversing (default 100), sorting symbols (default 50) and `pcfg` (default 520). */
  readonly symbols?: number;
}

function taskOf(name: string): LengthTask<unknown> {
  if (Object.hasOwn(LENGTH_TASKS, name)) return LENGTH_TASKS[name as LengthTaskName] as LengthTask<unknown>;
  const closest = closestNames(name, Object.keys(LENGTH_TASKS), 2);
  throw new ConfigError(`there is no length task ${quote(name)}; closest: ${closest.join(', ')}`);
}

/**
 * Random problems of a task, in turn of all lengths from `minLength` to `maxLength` that it has.
 * @throws ConfigError for an unknown task or scratchpad part, options out of range, and no such length.
 */
export function lengthTask(name: string, options: LengthTaskOptions, rng: Rng): LengthExample[] {
  const task = taskOf(name);
  const { minLength, maxLength, count, scratchpad = false, symbols } = options;
  checkInteger('lengthTask', 'minLength', minLength, task.minLength);
  checkInteger('lengthTask', 'maxLength', maxLength, minLength);
  checkInteger('lengthTask', 'count', count);
  if (task.maxLength !== undefined && maxLength > task.maxLength) {
    throw new ConfigError(`lengthTask: maxLength is ${maxLength}; ${quote(name)} goes to ${task.maxLength}`);
  }
  const lengths = lengthsOf(name, minLength, maxLength);
  if (lengths.length === 0) {
    throw new ConfigError(`lengthTask: ${quote(name)} has no problems of length ${minLength} to ${maxLength}`);
  }
  return Array.from({ length: count }, (_, i) => {
    const length = lengths[i % lengths.length];
    return { ...write(name, task, task.draw(length, rng, { symbols }), scratchpad), length };
  });
}

/** The lengths that a task has, from `minLength` to `maxLength`. @throws ConfigError for an unknown task. */
export function lengthsOf(name: string, minLength: number, maxLength: number): number[] {
  const task = taskOf(name);
  const all = Array.from({ length: Math.max(0, maxLength - minLength + 1) }, (_, i) => minLength + i);
  return all.filter((length) => task.hasLength?.(length) ?? true);
}

/** One given problem as text. @throws ConfigError as `lengthTask`. */
export function writeProblem<N extends LengthTaskName>(
  name: N,
  instance: LengthTaskInstances[N],
  scratchpad: Scratchpad = false,
): LengthProblem {
  return write(name, taskOf(name), instance, scratchpad);
}

function write(name: string, task: LengthTask<unknown>, instance: unknown, scratchpad: Scratchpad): LengthProblem {
  let steps = '';
  if (scratchpad !== false) {
    if (task.steps === undefined) {
      throw new ConfigError(`lengthTask: scratchpad is on, but ${quote(name)} has none; leave it out`);
    }
    steps = writeScratchpad(task.steps(instance), scratchpad, name);
  }
  return { prompt: task.prompt(instance), target: steps + task.target(instance), answer: task.answer(instance) };
}

/** The answer in what a model wrote after the prompt; undefined where there is none. @throws ConfigError for an unknown task. */
export function extractAnswer(name: string, text: string): string | undefined {
  return taskOf(name).extract(text);
}

/**
 * The share of right answers, for each length in rising order.
 * @param outputs what the model wrote after the prompt of each example.
 * @throws ConfigError unless there are as many outputs as examples.
 */
export function exactMatchByLength(
  name: string,
  examples: readonly LengthExample[],
  outputs: readonly string[],
): { length: number; accuracy: number; count: number }[] {
  if (outputs.length !== examples.length) {
    throw new ConfigError(`exactMatchByLength: ${outputs.length} outputs for ${examples.length} examples`);
  }
  const by = new Map<number, { right: number; count: number }>();
  for (const [i, { length, answer }] of examples.entries()) {
    const { right, count } = by.get(length) ?? { right: 0, count: 0 };
    by.set(length, { right: right + Number(extractAnswer(name, outputs[i]) === answer), count: count + 1 });
  }
  return [...by]
    .sort(([a], [b]) => a - b)
    .map(([length, { right, count }]) => ({ length, accuracy: right / count, count }));
}
