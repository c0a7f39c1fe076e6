import { ConfigError, type GradientState, Tensor, type TensorMap } from '@ashlar/tensor';

/** Rebuilds a state with every leaf replaced by `f(leaf, name)`; a leaf's name is its path, as in `0.mu.h.0.weight`. */
export function mapState<State extends GradientState>(
  state: State,
  f: (leaf: Tensor, name: string) => Tensor,
  prefix = '',
): State {
  const entries = Object.entries(state).map(([key, value]) => [key, mapNode(value, f, prefix + key)]);
  return Object.fromEntries(entries) as State;
}

type Node = GradientState[string];

function mapNode(node: Node, f: (leaf: Tensor, name: string) => Tensor, path: string): Node {
  if (node instanceof Tensor) return f(node, path);
  if (!isTensorMap(node)) return mapState(node, f, `${path}.`);
  return new Map([...node].map(([name, leaf]) => [name, f(leaf, `${path}.${name}`)]));
}

function isTensorMap(node: TensorMap | GradientState): node is TensorMap {
  return node instanceof Map;
}

/** The leaves of a state by their names. */
export function flattenState(state: GradientState): Map<string, Tensor> {
  const leaves = new Map<string, Tensor>();
  mapState(state, (leaf, name) => {
    if (leaves.has(name)) throw new ConfigError(`Two tensors of the optimizer state have the same name '${name}'.`);
    leaves.set(name, leaf);
    return leaf;
  });
  return leaves;
}

/** Two states of the same structure, leaf by leaf. */
export function zipState<State extends GradientState>(a: State, b: State, f: (a: Tensor, b: Tensor) => Tensor): State {
  const leaves = flattenState(b);
  return mapState(a, (leaf, name) => f(leaf, leaves.get(name) as Tensor));
}
