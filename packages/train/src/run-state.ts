import { ConfigError, FormatError, quote, type RngState } from '@ashlar/tensor';
import type { BatchPosition } from './batches.ts';
import type { Json } from './json.ts';

/** What `state.json` holds of a run, besides its tensors. */
export interface RunState {
  readonly format: 1;
  readonly step: number;
  readonly batches: BatchPosition;
  readonly rngs: Readonly<Record<string, RngState>>;
  /** Lowest evaluation loss; null before the first evaluation. */
  readonly best: number | null;
  readonly evaluationsSinceBest: number;
  /** The step of the last evaluation; null before the first. */
  readonly evaluatedAt: number | null;
  readonly config: { readonly [key: string]: Json };
}

/** @throws FormatError if `state` is not what a run writes. */
export function parseRunState(state: { readonly [key: string]: Json }, source: string): RunState {
  const whole = (value: Json | undefined): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const object = (value: Json | undefined): value is { readonly [key: string]: Json } =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const { batches } = state;
  const problems = [
    state.format !== 1 && `format is ${quote(state.format)}, not 1`,
    !whole(state.step) && 'step is no count',
    !(object(batches) && whole(batches.epoch) && whole(batches.index)) && 'batches is no position',
    !object(state.rngs) && 'rngs is no object',
    state.best !== null && typeof state.best !== 'number' && 'best is no number',
    !whole(state.evaluationsSinceBest) && 'evaluationsSinceBest is no count',
    state.evaluatedAt !== null && !whole(state.evaluatedAt) && 'evaluatedAt is no count',
    !object(state.config) && 'config is no object',
  ].filter((problem) => problem !== false);
  if (problems.length > 0) {
    throw new FormatError(`${source}: not the state of a run: ${problems.join('; ')}. Begin in another folder.`);
  }
  return state as unknown as RunState;
}

/** @throws ConfigError naming the entries in which a resumed run differs from the one that wrote the checkpoint. */
export function checkSameConfig(saved: Record<string, Json>, now: Record<string, Json>, source: string): void {
  const keys = new Set([...Object.keys(saved), ...Object.keys(now)]);
  const differing = [...keys].filter((key) => JSON.stringify(saved[key]) !== JSON.stringify(now[key]));
  if (differing.length === 0) return;
  const list = differing.map((key) => `${key} was ${quote(saved[key])}, is ${quote(now[key])}`);
  throw new ConfigError(
    `${source} belongs to a run with another config: ${list.join('; ')}. Use the same, or another folder.`,
  );
}
