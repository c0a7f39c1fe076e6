import {
  add,
  checkNumber,
  clone,
  dispose,
  keep,
  mul,
  type Parameter,
  type Scalar,
  type StateDict,
  scalar,
  sub,
  type Tensor,
  tidy,
} from '@ashlar/tensor';
import { checkSameTensors } from './check-same-tensors.ts';
import { constant, type Schedule } from './schedules.ts';
import { mapTensors } from './tensor-maps.ts';

/**
 * An exponential moving average of parameters: `s = decay * s + (1 - decay) * p` after each step, from `s = p`.
 * The shadow weights `s` are swapped in for evaluation and out again.
 *
 * Source: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging", in its exponential form.
 */
export class ParameterEma {
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly #decay: Schedule;
  #shadow: Map<string, Tensor>;
  #count: Scalar;
  #swapped = false;

  /**
   * @param parameters those to average; they stay the model's own.
   * @param options.decay in `[0, 1]`, or a schedule of the updates so far.
   * @throws ConfigError for a decay out of range.
   */
  constructor(parameters: ReadonlyMap<string, Parameter>, options: { decay: number | Schedule }) {
    const { decay } = options;
    if (typeof decay !== 'function') checkNumber('decay', decay, { min: 0, max: 1 });
    this.parameters = new Map(parameters);
    this.#decay = typeof decay === 'function' ? decay : constant(decay);
    this.#shadow = mapTensors(this.parameters, (parameter) => keep(clone(parameter.stored)));
    this.#count = keep(scalar(0));
  }

  /** Whether the model holds the shadow weights now. */
  get swapped(): boolean {
    return this.#swapped;
  }

  /** Moves the shadow weights towards the parameters. Does nothing while they are swapped in. */
  update(): void {
    if (this.#swapped) return;
    tidy(() => {
      const rest = sub(1, this.#decay(this.#count));
      for (const [name, parameter] of this.parameters) {
        const shadow = this.#shadow.get(name) as Tensor;
        this.#shadow.set(name, keep(add(shadow, mul(rest, sub(parameter.stored, shadow)))));
        shadow.dispose();
      }
      const count = this.#count;
      this.#count = keep(add(count, 1) as Scalar);
      count.dispose();
    });
  }

  /** Exchanges the model's weights and the shadow weights; a second call exchanges them back. */
  swap(): void {
    for (const [name, parameter] of this.parameters) {
      this.#shadow.set(name, parameter.exchange(this.#shadow.get(name) as Tensor));
    }
    this.#swapped = !this.#swapped;
  }

  /** The shadow weights under the parameters' names, and `count`. They stay the average's own. */
  stateDict(): Map<string, Tensor> {
    const shadow = this.#swapped ? mapTensors(this.parameters, (parameter) => parameter.stored) : this.#shadow;
    return new Map<string, Tensor>([...shadow, ['count', this.#count]]);
  }

  /**
   * Copies a saved state; nothing is changed unless all of it fits.
   * @throws FormatError listing every missing, unexpected and misshapen tensor.
   */
  loadStateDict(state: StateDict, options: { source?: string } = {}): void {
    checkSameTensors(state, this.stateDict(), options.source ?? 'The state of the moving average');
    if (this.#swapped) this.swap();
    dispose([...this.#shadow.values(), this.#count]);
    this.#shadow = mapTensors(this.#shadow, (_, name) => keep(clone(state.get(name) as Tensor)));
    this.#count = keep(clone(state.get('count') as Scalar));
  }

  /** Swaps out and disposes of the shadow weights; the parameters stay. */
  dispose(): void {
    if (this.#swapped) this.swap();
    dispose([...this.#shadow.values(), this.#count]);
    this.#shadow.clear();
  }
}
