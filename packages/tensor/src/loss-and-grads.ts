import { dispose, engine, type Scalar, type Tensor, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { ShapeError } from './errors.ts';
import { pass } from './once-per-pass.ts';
import type { Parameter } from './parameter.ts';

/** Tensors by parameter name: gradients, updates, optimizer moments. */
export type TensorMap = ReadonlyMap<string, Tensor>;

/**
 * Runs `f` and differentiates its scalar result with respect to the stored tensors of `parameters`.
 *
 * A parameter that `f` does not use gets zeros. What is not in `parameters` is a constant: frozen weights cost no
 * weight gradients. Gradients are differentiable again when called inside another gradient.
 * @returns the loss and the gradients by name; the caller disposes of them.
 * @throws ShapeError if `f` returns anything but a scalar.
 */
export function lossAndGrads(
  f: () => Tensor,
  parameters: ReadonlyMap<string, Parameter>,
): { loss: Scalar; grads: Map<string, Tensor> } {
  const names = [...parameters.keys()];
  const tensors = [...parameters.values()].map((parameter) => parameter.stored);
  const run = (): Scalar => {
    const value = pass(f);
    if (value.rank !== 0) throw new ShapeError(`A loss must be a scalar; this one has shape [${value.shape}].`);
    return value as Scalar;
  };
  if (tensors.length === 0) return { loss: tidy(run), grads: new Map() };
  const { value, grads } = engine().gradients(run, tensors, undefined, true);
  return { loss: value as Scalar, grads: new Map(names.map((name, i) => [name, grads[i] ?? zerosLike(tensors[i])])) };
}

/** Disposes of every tensor in a map. */
export function disposeMap(map: TensorMap): void {
  dispose([...map.values()]);
}
