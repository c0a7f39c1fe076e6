import { add, engine, ones, type Tensor, util } from '@tensorflow/tfjs-core';

/** One recorded operation. */
export interface TapeNode {
  readonly kernelName: string;
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly outputs: readonly Tensor[];
  /** The gradients of the inputs, each to be asked for; absent if the operation has none. */
  readonly gradient?: (dys: (Tensor | null)[]) => Record<string, () => Tensor>;
  /** Clones of inputs and outputs that `gradient` reads. */
  readonly saved: readonly Tensor[];
}

/** The part of tfjs's engine that differentiates; private in its types. */
interface Differentiator {
  gradients(f: () => Tensor, xs: Tensor[], dy?: Tensor | null, allowNoGradients?: boolean): Result;
  scopedRun<T>(start: () => void, end: () => void, f: () => T): T;
  startTape(): void;
  endTape(): void;
  tidy<T>(name: string, f: () => T): T;
  readonly state: {
    activeTape: TapeNode[] | null;
    readonly gradientDepth: number;
    readonly activeScope: { readonly id: number };
  };
}

interface Result {
  value: Tensor;
  grads: Tensor[];
}

/**
 * Makes gradients give back memory on the way. tfjs holds everything until the last gradient is there: all that the
 * forward pass saved, the gradient of every intermediate result, and what custom gradients compute on their way. Here a
 * node's are disposed of once the walk along the tape has passed it, which about halves the memory of a
 * transformer's training step.
 */
export function mendGradients(): void {
  (engine() as unknown as Differentiator).gradients = gradients;
}

/** As tfjs's method of this name, errors included. */
function gradients(
  this: Differentiator,
  f: () => Tensor,
  xs: Tensor[],
  dy?: Tensor | null,
  allowNoGradients = false,
): Result {
  util.assert(xs.length > 0, () => 'gradients() received an empty list of xs.');
  util.assert(dy == null || dy.dtype === 'float32', () => `dy must have 'float32' dtype, but has '${dy?.dtype}'`);
  const value = this.scopedRun(
    () => this.startTape(),
    () => this.endTape(),
    () => this.tidy('forward', f),
  );
  util.assert(typeof value?.id === 'number', () => 'The result y returned by f() must be a tensor.');
  const tape = this.state.activeTape as TapeNode[];
  const nodes = between(tape, xs, value);
  if (!allowNoGradients && nodes.length === 0) {
    throw new Error(
      'Cannot compute gradient of y=f(x) with respect to x. Make sure that the f you passed encloses all operations ' +
        'that lead from x to y.',
    );
  }
  return this.tidy('backward', () => {
    const known = new Map<number, Tensor>([[value.id, dy ?? ones(value.shape)]]);
    const wanted = new Set(xs.map(({ id }) => id));
    // What an inner gradient's tape has saved, the outer one will read.
    const outermost = this.state.gradientDepth === 0;
    const scope = this.state.activeScope.id;
    const release = (passed: Tensor | undefined): void => {
      // It may be another's (the caller's `dy`, a constant), or stand for several gradients.
      const own = passed?.scopeId === scope && !passed.kept && ![...known.values()].includes(passed);
      if (own) passed.dispose();
    };
    for (const node of nodes) {
      const before = Object.values(node.inputs).map(({ id }) => known.get(id));
      this.tidy(node.kernelName, () => pullBack(node, known));
      for (const { id } of node.outputs) {
        before.push(known.get(id));
        if (!wanted.has(id)) known.delete(id);
      }
      before.forEach(release);
      if (outermost) for (const tensor of node.saved) tensor.dispose();
    }
    if (outermost) {
      for (const { saved } of tape) for (const tensor of saved) tensor.dispose();
      this.state.activeTape = null;
    }
    return { value, grads: xs.map(({ id }) => known.get(id) as Tensor) };
  });
}

/** The nodes that lead from `xs` to `y`, last first, with those of their inputs that depend on `xs`. */
function between(tape: readonly TapeNode[], xs: readonly Tensor[], y: Tensor): TapeNode[] {
  const fromX = new Set(xs.map(({ id }) => id));
  const forward: TapeNode[] = [];
  for (const node of tape) {
    const inputs = Object.entries(node.inputs).filter(([, { id }]) => fromX.has(id));
    if (inputs.length === 0) continue;
    for (const { id } of node.outputs) fromX.add(id);
    forward.push({ ...node, inputs: Object.fromEntries(inputs) });
  }
  const toY = new Set([y.id]);
  const backward: TapeNode[] = [];
  for (const node of forward.reverse()) {
    if (!node.outputs.some(({ id }) => toY.has(id))) continue;
    for (const { id } of Object.values(node.inputs)) toY.add(id);
    backward.push(node);
  }
  return backward;
}

/** Adds a node's share to the gradients of its inputs; returns these, for the `tidy` around it. */
function pullBack({ kernelName, inputs, outputs, gradient }: TapeNode, known: Map<number, Tensor>): Tensor[] {
  if (gradient == null) {
    throw new Error(`Cannot compute gradient: gradient function not found for ${kernelName}.`);
  }
  const partials = gradient(outputs.map(({ id }) => known.get(id) ?? null));
  for (const [name, x] of Object.entries(inputs)) {
    if (!(name in partials)) {
      throw new Error(`Cannot backprop through input ${name}. Available gradients found: ${Object.keys(partials)}.`);
    }
    const dx = engine().tidy(partials[name]) as Tensor;
    if (dx.dtype !== 'float32' || !util.arraysEqual(dx.shape, x.shape)) {
      throw new Error(
        `Error in gradient for op ${kernelName}. The gradient of input '${name}' must be float32 [${x.shape}], ` +
          `but is ${dx.dtype} [${dx.shape}].`,
      );
    }
    const before = known.get(x.id);
    known.set(x.id, before === undefined ? dx : add(before, dx));
  }
  return Object.values(inputs).map(({ id }) => known.get(id) as Tensor);
}
