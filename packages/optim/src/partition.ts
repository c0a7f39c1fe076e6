import {
  ConfigError,
  type GradientState,
  type GradientTransformation,
  type Tensor,
  type TensorMap,
} from '@ashlar/tensor';
import type { ParameterPredicate } from './add-decayed-weights.ts';
import { identity } from './chain.ts';

/** The states of the groups by label. */
export type PartitionState = { readonly [label: string]: GradientState };

/**
 * Groups of parameters, each with a transformation of its own (PyTorch's parameter groups): a parameter belongs to the
 * transformation under the label that `labeler` gives it. A norm clipped inside a group is the group's.
 *
 * LoRA+: `partition({ a: adamw({ learningRate }), b: adamw({ learningRate: 16 * learningRate }) },
 * (name) => name.includes('lora_B') ? 'b' : 'a')`.
 * @throws ConfigError from `init` if `labeler` gives a label that has no transformation.
 */
export function partition(
  transformations: Readonly<Record<string, GradientTransformation>>,
  labeler: (name: string, parameter: Tensor) => string,
): GradientTransformation<PartitionState> {
  const labels = Object.keys(transformations);
  const split = (tensors: TensorMap, parameters: TensorMap): Map<string, Map<string, Tensor>> => {
    const groups = new Map<string, Map<string, Tensor>>(labels.map((label) => [label, new Map()]));
    for (const [name, parameter] of parameters) {
      const label = labeler(name, parameter);
      const group = groups.get(label);
      if (group === undefined) {
        throw new ConfigError(`labeler gives '${name}' the label '${label}'; it must be one of ${labels.join(', ')}.`);
      }
      const tensor = tensors.get(name);
      if (tensor !== undefined) group.set(name, tensor);
    }
    return groups;
  };
  const groupOf = (groups: Map<string, Map<string, Tensor>>, label: string): TensorMap =>
    groups.get(label) ?? new Map();
  return {
    init(parameters) {
      const groups = split(parameters, parameters);
      return Object.fromEntries(labels.map((label) => [label, transformations[label].init(groupOf(groups, label))]));
    },
    update(gradients, state, parameters) {
      const gradientGroups = split(gradients, parameters);
      const parameterGroups = split(parameters, parameters);
      const merged = new Map<string, Tensor>();
      const next: Record<string, GradientState> = {};
      for (const label of labels) {
        const result = transformations[label].update(
          groupOf(gradientGroups, label),
          state[label],
          groupOf(parameterGroups, label),
        );
        next[label] = result.state;
        for (const [name, update] of result.updates) merged.set(name, update);
      }
      // In the order that came in, so that what follows does not depend on the grouping.
      const updates = new Map([...gradients.keys()].flatMap((name) => pick(merged, name)));
      return { updates, state: next };
    },
  };
}

/** Applies `transformation` to the parameters that `predicate` chooses; the gradients of the others pass through. */
export function masked(
  transformation: GradientTransformation,
  predicate: ParameterPredicate,
): GradientTransformation<PartitionState> {
  return partition({ masked: transformation, others: identity() }, (name, parameter) =>
    predicate(name, parameter) ? 'masked' : 'others',
  );
}

function pick(tensors: TensorMap, name: string): [string, Tensor][] {
  const tensor = tensors.get(name);
  return tensor === undefined ? [] : [[name, tensor]];
}
