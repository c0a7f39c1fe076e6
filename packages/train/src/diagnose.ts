import {
  type AnyModule,
  checkFinite,
  NumericsError,
  type Signals,
  type Tensor,
  type TensorContainer,
  tensor_util,
  tidy,
} from '@ashlar/tensor';
import type { Batch } from './batches.ts';

/** Where the numbers of a step first go wrong: batch, then parameters, then activations, then signals. */
export function findNonFinite<B extends Batch>(
  model: AnyModule,
  forward: (batch: B) => Signals,
  batch: B,
): string | undefined {
  return (
    nonFinite('batch tensor', Object.entries(batch)) ??
    nonFinite('parameter', storedParameters(model)) ??
    tidy(() => traceForward(model, () => forward(batch)))
  );
}

/** The first tensor with a NaN or an infinity, as `checkFinite` describes it. */
export function nonFinite(what: string, tensors: Iterable<readonly [string, Tensor]>): string | undefined {
  try {
    checkFinite(tensors, what);
    return undefined;
  } catch (error) {
    if (error instanceof NumericsError) return error.message;
    throw error;
  }
}

export function* storedParameters(model: AnyModule): Generator<[string, Tensor]> {
  for (const [name, parameter] of model.namedParameters()) yield [name, parameter.stored];
}

/** Runs the forward pass again and looks at every module's output; children are done before their parents. */
function traceForward(model: AnyModule, forward: () => Signals): string | undefined {
  let found: string | undefined;
  const handles = Array.from(model.namedModules(), ([path, module]) =>
    module.registerForwardHook((output) => {
      const tensors = tensor_util.getTensorsInContainer(output as TensorContainer);
      found ??= nonFinite(
        'activation',
        tensors.map((tensor) => [path === '' ? 'model' : path, tensor]),
      );
    }),
  );
  try {
    const signals = forward();
    return found ?? nonFinite('signal', Object.entries(signals));
  } finally {
    for (const handle of handles) handle.remove();
  }
}
