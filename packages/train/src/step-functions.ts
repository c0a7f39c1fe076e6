import { globalNorm, type Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  canJit,
  clone,
  dispose,
  type Jitted,
  jitAsync,
  keep,
  lossAndGrads,
  moduleState,
  parameterState,
  type Scalar,
  type Signals,
  scalar,
  type Tensor,
} from '@ashlar/tensor';
import type { Batch } from './batches.ts';
import type { WeightedObjective } from './objectives.ts';
import type { GradientFunction } from './options.ts';

/** Graphs after which batches are taken to differ too much for each to be worth its tracing. */
const MAX_GRAPHS = 16;

export interface StepFunctionsOptions<B extends Batch> {
  readonly model: AnyModule;
  readonly forward: (batch: B) => Signals;
  readonly objective: WeightedObjective;
  readonly optimizer: Optimizer;
  readonly gradients: GradientFunction | undefined;
  /** Undefined: where the backend can and nothing speaks against it. */
  readonly jit: boolean | undefined;
}

export interface LossAndGrads {
  readonly loss: Scalar;
  readonly weight: Scalar;
  readonly grads: Map<string, Tensor>;
}

/** The computations of a training step, each one graph where the backend runs such. */
export class StepFunctions<B extends Batch> {
  /** Loss, weight and gradients of one batch; the caller disposes of them. */
  readonly gradients: (batch: B) => Promise<LossAndGrads>;
  readonly gradNorm: (grads: ReadonlyMap<string, Tensor>) => Promise<Scalar>;
  /** Updates the parameters; the gradients stay the caller's. */
  readonly update: (grads: ReadonlyMap<string, Tensor>) => Promise<void>;
  /** Why the run goes on without jit, once it does. */
  warning: string | undefined;
  readonly #jitted: { readonly traces: number; dispose(): void }[] = [];
  #useJit: boolean;
  readonly #required: boolean;

  constructor({
    model,
    forward,
    objective,
    optimizer,
    gradients: differentiate = lossAndGrads,
    jit: asked,
  }: StepFunctionsOptions<B>) {
    // The state of an objective is its own to replace, out of reach of a graph.
    const stateful = (objective.stateDict?.().size ?? 0) > 0;
    this.#required = asked === true;
    this.#useJit = asked ?? (canJit() && !stateful);
    const gradients = (batch: B): LossAndGrads => {
      let weight: Scalar | undefined;
      const { loss, grads, ...more } = differentiate(() => {
        const signals = forward(batch);
        weight?.dispose();
        weight = keep(clone(objective.weight?.(signals) ?? scalar(1)));
        return objective.compute(signals);
      }, optimizer.parameters);
      dispose(more);
      return { loss, grads, weight: weight as unknown as Scalar };
    };
    const parameters = parameterState(optimizer.parameters.values());
    // Without hoisting, so that a run that goes on from a checkpoint computes the same to the last bit.
    const traced = jitAsync(gradients, { state: [moduleState(model)], name: 'gradients', hoist: false });
    this.gradients = this.#optional(gradients, traced);
    this.gradNorm = this.#optional(globalNorm, jitAsync(globalNorm));
    const update = (grads: ReadonlyMap<string, Tensor>): void => optimizer.step(grads);
    this.update = this.#optional(update, jitAsync(update, { state: [parameters, optimizer], name: 'update' }));
  }

  /** `jitted` as long as it works. */
  #optional<In, Out>(eager: (x: In) => Out, jitted: Jitted<[In], Promise<Out>>): (x: In) => Promise<Out> {
    this.#jitted.push(jitted);
    return async (x) => {
      if (!this.#useJit) return eager(x);
      try {
        const result = await jitted(x);
        if (jitted.traces > MAX_GRAPHS && !this.#required) {
          this.#giveUp(`the batches have more than ${MAX_GRAPHS} different shapes`);
        }
        return result;
      } catch (error) {
        if (this.#required) throw error;
        // Throws in its turn where the function itself is wrong.
        const result = eager(x);
        this.#giveUp(error instanceof Error ? error.message : String(error));
        return result;
      }
    };
  }

  #giveUp(reason: string): void {
    this.#useJit = false;
    this.warning = `Training goes on without jit, which is slower: ${reason}`;
    this.dispose();
  }

  /** Lets go of the graphs. */
  dispose(): void {
    for (const jitted of this.#jitted) jitted.dispose();
  }
}
