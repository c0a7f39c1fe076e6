/** Base of every error that Ashlar throws on purpose: `instanceof AshlarError` tells it from a bug. */
export class AshlarError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** Tensors whose shapes do not fit; the message gives what was expected and what came. */
export class ShapeError extends AshlarError {}

/** An option with a value it may not have; the message names the option, what it was and what it may be. */
export class ConfigError extends AshlarError {}

/** A file, table or row that cannot be read; the message names the path, the place in it and a remedy. */
export class FormatError extends AshlarError {}

/** A NaN or an infinity where a finite number belongs; the message names the tensor. */
export class NumericsError extends AshlarError {}

/** The entries of `candidates` closest to `name` by edit distance, best first: for "did you mean" in messages. */
export function closestNames(name: string, candidates: Iterable<string>, count = 3): string[] {
  const last = (path: string): string => path.slice(path.lastIndexOf('.') + 1);
  const distance = (candidate: string): number =>
    Math.min(editDistance(name, candidate), editDistance(last(name), last(candidate)) + 0.5);
  return [...new Set(candidates)]
    .map((candidate) => ({ candidate, d: distance(candidate) }))
    .sort((a, b) => a.d - b.d)
    .slice(0, count)
    .map(({ candidate }) => candidate);
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
