import { type AnyModule, FormatError, Rng, type RngState } from '@ashlar/tensor';

const DRAW = 65_536;

/** The generators that a run draws from: those given by name, and those that modules hold as properties. */
export function collectRngs(model: AnyModule, given: Readonly<Record<string, Rng>> = {}): Map<string, Rng> {
  const rngs = new Map<string, Rng>();
  for (const [path, module] of model.namedModules()) {
    for (const [key, value] of Object.entries(module)) {
      if (value instanceof Rng) rngs.set(path === '' ? key : `${path}.${key}`, value);
    }
  }
  for (const [name, rng] of Object.entries(given)) rngs.set(name, rng);
  return rngs;
}

export function rngStates(rngs: ReadonlyMap<string, Rng>): Record<string, RngState> {
  return Object.fromEntries([...rngs].map(([name, rng]) => [name, rng.state()]));
}

/** @throws FormatError if the generators are others than those whose states were saved. */
export function restoreRngs(rngs: ReadonlyMap<string, Rng>, states: Readonly<Record<string, RngState>>): void {
  const differing = [
    ...[...rngs.keys()].filter((name) => !Object.hasOwn(states, name)),
    ...Object.keys(states).filter((name) => !rngs.has(name)),
  ];
  if (differing.length > 0) {
    throw new FormatError(
      `The checkpoint was written with other random generators; they differ in ${differing.join(', ')}.`,
    );
  }
  for (const [name, rng] of rngs) advance(name, rng, states[name]);
}

/** Draws until the generator stands where `state` says: one of the same seed is never behind it. */
function advance(name: string, rng: Rng, state: RngState): void {
  const { key, counter } = rng.state();
  const target = Rng.fromState(state).state();
  if (key[0] !== target.key[0] || key[1] !== target.key[1] || counter > target.counter) {
    throw new FormatError(`The checkpoint was written with another seed for the generator '${name}'; use the same.`);
  }
  for (let rest = target.counter - counter; rest > 0; rest -= DRAW) rng.uint32(Math.min(rest, DRAW));
}
