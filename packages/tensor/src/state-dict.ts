import { clone, type Tensor, util } from '@tensorflow/tfjs-core';
import { closestNames, FormatError } from './errors.ts';
import type { AnyModule } from './module.ts';

/** Tensors by name, in PyTorch's names and shapes. */
export type StateDict = ReadonlyMap<string, Tensor>;

/** What `loadStateDict` found not to match. */
export interface StateDictMismatch {
  missing: string[];
  unexpected: string[];
}

/** The stored tensors of `model` by name. They stay the model's own: do not dispose them. */
export function stateDict(model: AnyModule): Map<string, Tensor> {
  return new Map([...model.namedState()].map(([name, slot]) => [name, slot.stored]));
}

/**
 * Copies `tensors` into the model's parameters and buffers; the caller keeps owning the given ones. Nothing is changed
 * unless everything fits.
 * @param options.strict whether missing and unexpected names are errors (default true); tensors of the wrong shape
 *   always are.
 * @param options.source named in the error, for example the file.
 * @throws FormatError listing every missing, unexpected and misshapen tensor.
 */
export function loadStateDict(
  model: AnyModule,
  tensors: StateDict,
  options: { strict?: boolean; source?: string } = {},
): StateDictMismatch {
  const { strict = true, source = 'The state dict' } = options;
  const slots = new Map(model.namedState());
  // A tied tensor may come under only one of its names.
  const given = new Set([...slots].filter(([name]) => tensors.has(name)).map(([, slot]) => slot));
  const missing = [...slots].filter(([, slot]) => !given.has(slot)).map(([name]) => name);
  const unexpected = [...tensors.keys()].filter((name) => !slots.has(name));
  const misshapen: string[] = [];
  for (const [name, slot] of slots) {
    const tensor = tensors.get(name);
    if (tensor === undefined) continue;
    if (!util.arraysEqual(tensor.shape, slot.shape)) {
      misshapen.push(`${name} is [${tensor.shape}], the model has [${slot.shape}]`);
    } else if (tensor.dtype !== slot.dtype) {
      misshapen.push(`${name} is ${tensor.dtype}, the model has ${slot.dtype}`);
    }
  }
  const problems: string[] = [];
  if (strict && missing.length > 0) problems.push(`missing: ${missing.join(', ')}`);
  if (strict && unexpected.length > 0) {
    const named = unexpected.map((name) => {
      const [closest] = closestNames(name, missing, 1);
      return closest === undefined ? name : `${name} (did you mean ${closest}?)`;
    });
    problems.push(`unexpected: ${named.join(', ')}`);
  }
  if (misshapen.length > 0) problems.push(`wrong shape or type: ${misshapen.join('; ')}`);
  if (problems.length > 0) {
    throw new FormatError(`${source} does not fit this model.\n  ${problems.join('\n  ')}`);
  }
  for (const [name, slot] of slots) {
    const tensor = tensors.get(name);
    if (tensor !== undefined) slot.assign(clone(tensor));
  }
  return { missing, unexpected };
}
