import {
  add,
  ConfigError,
  clone,
  dispose,
  type GradientState,
  type GradientTransformation,
  type JitState,
  keep,
  type Parameter,
  type StateDict,
  type Tensor,
  type TensorMap,
  tidy,
} from '@ashlar/tensor';
import { checkSameTensors } from './check-same-tensors.ts';
import { flattenState, mapState } from './state.ts';

/** Adds `updates` to the parameters of the same names; parameters without an update stay as they are. */
export function applyUpdates(parameters: ReadonlyMap<string, Parameter>, updates: TensorMap): void {
  tidy(() => {
    for (const [name, update] of updates) {
      const parameter = parameters.get(name);
      if (parameter === undefined) throw new ConfigError(`There is an update for '${name}' but no such parameter.`);
      parameter.assign(add(parameter.stored, update));
    }
  });
}

/** A transformation at work on the parameters of a model: it owns the state that changes from step to step. */
export class Optimizer implements JitState {
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly #transformation: GradientTransformation;
  #state: GradientState;

  /**
   * @param parameters those to train, as `model.trainableParameters()` gives them; they stay the model's own.
   * @throws ConfigError if one of them is frozen.
   */
  constructor(parameters: ReadonlyMap<string, Parameter>, transformation: GradientTransformation) {
    for (const [name, parameter] of parameters) {
      if (!parameter.requiresGrad) {
        throw new ConfigError(`Parameter '${name}' is frozen; give the optimizer model.trainableParameters().`);
      }
    }
    this.parameters = new Map(parameters);
    this.#transformation = transformation;
    this.#state = own(() => transformation.init(this.#stored()));
  }

  /**
   * Updates the parameters in place. The gradients stay the caller's.
   * @throws ConfigError if a parameter has no gradient.
   */
  step(gradients: TensorMap): void {
    const missing = [...this.parameters.keys()].filter((name) => !gradients.has(name));
    if (missing.length > 0) throw new ConfigError(`No gradient for ${missing.join(', ')}.`);
    tidy(() => {
      const { updates, state } = this.#transformation.update(gradients, this.#state, this.#stored());
      applyUpdates(this.parameters, updates);
      this.#replaceState(own(() => state));
    });
  }

  /** The learning rate of the last step (of the first one, before it), where `scaleByLearningRate` sets it. */
  async learningRate(): Promise<number | undefined> {
    for (const [name, leaf] of flattenState(this.#state)) {
      if (name === 'learningRate' || name.endsWith('.learningRate')) return (await leaf.data())[0];
    }
    return undefined;
  }

  /** The tensors of the state by path, as in `0.mu.h.0.attn.weight`. They stay the optimizer's own. */
  stateDict(): Map<string, Tensor> {
    return flattenState(this.#state);
  }

  /**
   * Copies a saved state; nothing is changed unless all of it fits.
   * @param options.source named in the error, for example the file.
   * @throws FormatError listing every missing, unexpected and misshapen tensor.
   */
  loadStateDict(state: StateDict, options: { source?: string } = {}): void {
    checkSameTensors(state, this.stateDict(), options.source ?? 'The optimizer state');
    this.#replaceState(own(() => mapState(this.#state, (leaf, name) => state.get(name) ?? leaf)));
  }

  /** The tensors of the state, as state of a function under `jit`. */
  read(): Tensor[] {
    return [...flattenState(this.#state).values()];
  }

  write(tensors: readonly Tensor[]): void {
    let i = 0;
    this.#replaceState(mapState(this.#state, () => keep(tensors[i++] as Tensor)));
  }

  /** Disposes of the state; the parameters stay. */
  dispose(): void {
    this.#replaceState({});
  }

  #stored(): Map<string, Tensor> {
    return new Map([...this.parameters].map(([name, parameter]) => [name, parameter.stored]));
  }

  #replaceState(state: GradientState): void {
    const kept = new Set(flattenState(state).values());
    const old = [...flattenState(this.#state).values()].filter((leaf) => !kept.has(leaf));
    this.#state = state;
    dispose(old);
  }
}

/** Copies that outlive the `tidy`: a transformation may return tensors of the old state or of its arguments. */
function own(make: () => GradientState): GradientState {
  let owned: GradientState = {};
  tidy(() => {
    owned = mapState(make(), (leaf) => keep(clone(leaf)));
  });
  return owned;
}
