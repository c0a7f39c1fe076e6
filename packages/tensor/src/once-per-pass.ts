import { clone, dispose, keep, type Tensor } from '@tensorflow/tfjs-core';
import { isRecording } from './gradients/tape.ts';
import { moduleState } from './jit.ts';
import type { AnyModule } from './module.ts';

interface Result {
  readonly module: AnyModule;
  readonly inputs: readonly unknown[];
  /** What else the result depends on. */
  readonly signature: string;
  readonly state: readonly Tensor[];
  readonly tensor: Tensor;
}

let results: Result[] | undefined;

/**
 * What `make` computes of `inputs` with the parameters of `module`: once in a `lossAndGrads`, for modules that all layers
 * share and each asks for the same, and as often as it is called outside of one. The caller owns the result.
 * @param inputs compared by identity.
 */
export function oncePerPass(module: AnyModule, inputs: readonly unknown[], make: () => Tensor): Tensor {
  if (results === undefined || !isRecording()) return make();
  const own = moduleState(module);
  const [signature, state] = [own.signature?.() ?? '', own.read()];
  const same = (a: readonly unknown[], b: readonly unknown[]): boolean =>
    a.length === b.length && a.every((each, i) => each === b[i]);
  let result = results.find(
    (known) =>
      known.module === module &&
      known.signature === signature &&
      same(known.inputs, inputs) &&
      same(known.state, state),
  );
  if (result === undefined) {
    result = { module, inputs, signature, state, tensor: keep(make()) };
    results.push(result);
  }
  return clone(result.tensor);
}

/** Runs `f`, in which `oncePerPass` remembers. */
export function pass<T>(f: () => T): T {
  const outer = results;
  const own: Result[] = [];
  results = own;
  try {
    return f();
  } finally {
    results = outer;
    dispose(own.map(({ tensor }) => tensor));
  }
}
