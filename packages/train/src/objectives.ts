import {
  add,
  ConfigError,
  type CrossEntropyOptions,
  cast,
  closestNames,
  crossEntropy,
  mul,
  notEqual,
  type Objective,
  type PositionEncoding,
  type Scalar,
  type Signals,
  type StateDict,
  scalar,
  sum,
  type Tensor,
} from '@ashlar/tensor';

/**
 * An objective that is a mean over a number of terms that varies from batch to batch, such as the labels that count. The
 * trainer averages micro-batches and evaluation batches in these proportions; without `weight` all batches count alike.
 */
export interface WeightedObjective extends Objective {
  /** How many terms `compute` averages over: a scalar. Runs inside a `tidy`. */
  weight?(signals: Signals): Scalar;
}

/** The signal of that name. @throws ConfigError with the closest names if there is none. */
export function signal(signals: Signals, name: string): Tensor {
  const tensor = signals[name];
  if (tensor !== undefined) return tensor;
  const closest = closestNames(name, Object.keys(signals)).join(', ') || 'none';
  throw new ConfigError(`There is no signal '${name}'. Signals from forward: ${closest}.`);
}

/** The loss that `forward` computed itself, as the signal `name`. */
export function signalObjective(name = 'loss'): WeightedObjective {
  return { compute: (signals) => signal(signals, name) as Scalar };
}

/**
 * Mean cross-entropy of the signals `logits` `[..., vocab]` and `labels` (int32 `[...]`), as `crossEntropy` has it.
 * Its weight is the number of labels that are not `ignoreIndex`.
 */
export function crossEntropyObjective(
  options: Pick<CrossEntropyOptions, 'ignoreIndex' | 'labelSmoothing'> = {},
): WeightedObjective {
  const { ignoreIndex = -100 } = options;
  return {
    compute: (signals) => crossEntropy(signal(signals, 'logits'), signal(signals, 'labels'), options) as Scalar,
    weight: (signals) => sum(cast(notEqual(signal(signals, 'labels'), ignoreIndex), 'float32')),
  };
}

/**
 * What a position encoding adds to the loss (SeqPE's two), 0 where it has nothing to add. Goes beside the task's objective in
 * `sumObjectives`; evaluations are better off with the task's alone.
 */
export function encodingObjective(encoding: PositionEncoding): WeightedObjective {
  return { compute: () => encoding.auxiliaryLoss?.() ?? scalar(0) };
}

/**
 * `sum_i weights[i] * objectives[i]`. Its weight is that of the first objective that has one.
 * @param weights default all 1.
 * @throws ConfigError if there are no objectives, or not as many weights.
 */
export function sumObjectives(
  objectives: readonly WeightedObjective[],
  weights: readonly number[] = objectives.map(() => 1),
): WeightedObjective {
  if (objectives.length === 0) throw new ConfigError('objectives is empty; it must have at least one.');
  if (weights.length !== objectives.length || !weights.every(Number.isFinite)) {
    throw new ConfigError(
      `weights is [${weights}]; it must be ${objectives.length} finite numbers, one per objective.`,
    );
  }
  const weigher = objectives.find((objective) => objective.weight !== undefined);
  return {
    compute: (signals) =>
      objectives
        .map((objective, i) => mul(objective.compute(signals), weights[i]))
        .reduce((a, b) => add(a, b)) as Scalar,
    ...(weigher && { weight: (signals: Signals) => weigher.weight!(signals) }),
    stateDict: () => joinStates(objectives),
    loadStateDict: (state) => splitState(objectives, state),
  };
}

interface Stateful {
  stateDict?(): StateDict;
  loadStateDict?(state: StateDict): void;
}

/** The states of several parts under `0.`, `1.` … */
export function joinStates(parts: readonly Stateful[]): Map<string, Tensor> {
  return new Map(
    parts.flatMap((part, i) =>
      [...(part.stateDict?.() ?? [])].map(([name, t]): [string, Tensor] => [`${i}.${name}`, t]),
    ),
  );
}

/** Gives each part what `joinStates` took from it. */
export function splitState(parts: readonly Stateful[], state: StateDict): void {
  for (const [i, part] of parts.entries()) {
    const prefix = `${i}.`;
    const own = [...state].filter(([name]) => name.startsWith(prefix));
    part.loadStateDict?.(new Map(own.map(([name, t]) => [name.slice(prefix.length), t])));
  }
}
