import { type Tensor, type TensorMap, tidy, zerosLike } from '@ashlar/tensor';

/**
 * Applies `f` to every tensor of a map, by name. What `f` makes on the way is disposed of at once, so that the
 * next tensor can use its memory.
 */
export function mapTensors<T>(
  tensors: ReadonlyMap<string, T>,
  f: (tensor: T, name: string) => Tensor,
): Map<string, Tensor> {
  return new Map([...tensors].map(([name, tensor]) => [name, tidy(() => f(tensor, name))]));
}

/** The entry of `name`; the maps of one step all have the same names. */
export function at(tensors: TensorMap, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new RangeError(`No tensor '${name}' among ${[...tensors.keys()].join(', ')}.`);
  return tensor;
}

export function zerosLikeMap(tensors: TensorMap): Map<string, Tensor> {
  return mapTensors(tensors, (tensor) => zerosLike(tensor));
}
