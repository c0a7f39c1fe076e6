import type { Value } from './graph.ts';
import { ELEMENTWISE_THRESHOLD, sizeOf } from './kernel.ts';
import type { Node } from './onnx.ts';
import type { Output } from './program.ts';
import type { GraphInput, Trace } from './trace.ts';

/** Kernels that compute nothing: by themselves they are not worth keeping, since products take most of them in passing. */
const MOVES: ReadonlySet<string> = new Set([
  'Identity',
  'Slice',
  'SplitV',
  'StridedSlice',
  'Tile',
  'Transpose',
  'Unpack',
]);

/** The most bytes that one graph keeps between its runs. */
const KEPT_LIMIT = 2 ** 28;

/**
 * The values on the way to `outputs` that depend on nothing but `steady` inputs, so that they are the same from run to run
 * while those are: of each such part its results, where it computes more than a few numbers.
 */
export function hoistable(trace: Trace, outputs: readonly Value[], steady: (input: GraphInput) => boolean): Output[] {
  const { nodes, initializers } = trace.graph;
  const constant = new Set<Value>(['', ...initializers.map(({ name }) => name)]);
  /** The values that depend on steady inputs, with the size of the largest one computed on the way. */
  const work = new Map<Value, number>(trace.inputs.filter(steady).map(({ name }) => [name, 0]));
  for (const node of nodes) {
    const from = node.inputs.filter((name) => !constant.has(name));
    if (from.length === 0) {
      for (const name of node.outputs) constant.add(name);
    } else if (from.every((name) => work.has(name))) {
      const before = Math.max(...from.map((name) => work.get(name)!));
      for (const name of node.outputs) {
        const made = trace.made.get(name);
        work.set(name, made && !MOVES.has(made.kernel) ? Math.max(before, sizeOf(made.shape)) : before);
      }
    }
  }
  const kept = new Map<Value, Output>();
  let bytes = 0;
  const keep = (value: Value): boolean => {
    if (kept.has(value)) return true;
    const made = trace.made.get(value);
    if (made === undefined || (work.get(value) ?? 0) < ELEMENTWISE_THRESHOLD) return false;
    const { shape, dtype } = made;
    const more = sizeOf(shape) * (dtype === 'bool' ? 1 : 4);
    if (bytes + more > KEPT_LIMIT) return false;
    bytes += more;
    kept.set(value, { value, shape, view: shape, dtype });
    return true;
  };
  neededNodes(nodes, outputs, keep);
  return [...kept.values()];
}

/** Those of `nodes`, which are in the order of their running, that `outputs` need, if the `given` values are there. */
export function neededNodes(
  nodes: readonly Node[],
  outputs: readonly Value[],
  given: (value: Value) => boolean,
): Node[] {
  const needed = new Set<Value>(outputs.filter((value) => !given(value)));
  const found = nodes.toReversed().filter((node) => {
    if (!node.outputs.some((name) => needed.has(name))) return false;
    for (const name of node.inputs) if (!given(name)) needed.add(name);
    return true;
  });
  return found.reverse();
}
