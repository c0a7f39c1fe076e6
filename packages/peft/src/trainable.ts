import type { AnyModule, Parameter } from '@ashlar/tensor';

/** Those of `own` that train, by their name in the model. */
export function trainingOf(model: AnyModule, own: Iterable<Parameter>): Map<string, Parameter> {
  const wanted = new Set(own);
  return new Map([...model.trainableParameters()].filter(([, parameter]) => wanted.has(parameter)));
}

/** The share of the model's numbers that is in `parameters`. */
export function fractionOf(model: AnyModule, parameters: ReadonlyMap<string, Parameter>): number {
  return countNumbers(parameters.values()) / countNumbers(model.parameters());
}

/** How many numbers `parameters` hold. */
export const countNumbers = (parameters: Iterable<Parameter>): number =>
  [...parameters].reduce((count, { size }) => count + size, 0);
