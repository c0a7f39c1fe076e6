import { type DataType, keep, type Tensor, util } from '@tensorflow/tfjs-core';
import { ConfigError, ShapeError } from './errors.ts';
import { outsideTrace } from './jit.ts';

/** A tensor that is made on first use, so that loading a checkpoint over it costs no initialisation. */
export interface LazyTensor {
  readonly shape: readonly number[];
  /** Default `'float32'`. */
  readonly dtype?: DataType;
  /** Makes the initial value; it must have `shape` and `dtype`. */
  readonly init: () => Tensor;
}

/** A named place in a module that owns one tensor: the common part of `Parameter` and `Buffer`. */
abstract class Slot {
  readonly shape: number[];
  readonly dtype: DataType;
  #tensor: Tensor | undefined;
  #init: (() => Tensor) | undefined;

  /** Takes ownership of `value`. */
  constructor(value: Tensor | LazyTensor) {
    this.shape = [...value.shape];
    this.dtype = value.dtype ?? 'float32';
    if ('init' in value) this.#init = value.init;
    else this.#tensor = keep(value);
  }

  get size(): number {
    return util.sizeFromShape(this.shape);
  }

  /** Whether the tensor exists already (a lazy one is made by the first read of `stored`). */
  get materialized(): boolean {
    return this.#tensor !== undefined;
  }

  /** The tensor as stored. The slot owns it: do not dispose it, and do not hold it across `assign`. */
  get stored(): Tensor {
    if (this.#tensor === undefined) {
      if (this.#init === undefined) throw new ConfigError('This parameter has been disposed of.');
      const made = outsideTrace(this.#init);
      this.#check(made);
      this.#tensor = keep(made);
      this.#init = undefined;
    }
    return this.#tensor;
  }

  /**
   * Replaces the stored tensor, takes ownership of `value` and disposes of the old one.
   * @throws ShapeError if shape or dtype differ.
   */
  assign(value: Tensor): void {
    this.#check(value);
    const old = this.#tensor;
    if (old === value) return;
    this.#tensor = keep(value);
    this.#init = undefined;
    old?.dispose();
  }

  /** Replaces the stored tensor by `value` and returns the old one; the caller then owns that. */
  exchange(value: Tensor): Tensor {
    this.#check(value);
    const old = this.stored;
    this.#tensor = keep(value);
    return old;
  }

  dispose(): void {
    this.#tensor?.dispose();
    this.#tensor = undefined;
    this.#init = undefined;
  }

  #check(value: Tensor): void {
    if (value.dtype !== this.dtype || !util.arraysEqual(value.shape, this.shape)) {
      throw new ShapeError(
        `This parameter holds ${this.dtype} [${this.shape}] and cannot take ${value.dtype} [${value.shape}].`,
      );
    }
  }
}

/**
 * A function from a stored weight to the weight in use (a mask, SVD factors, fake quantization …), stacked on a
 * `Parameter`. It may be a `Module` with parameters of its own; these then train as the parameter's children.
 */
export interface Parametrization {
  /** The weight in use, of the stored weight's shape; differentiable. */
  parametrize(weight: Tensor): Tensor;
  /** As `Module.signature`: what decides, besides tensors, what it computes. */
  signature?(): string;
}

/** A trainable tensor of a module. */
export class Parameter extends Slot {
  /** Whether training computes its gradient and updates it. */
  requiresGrad = true;
  readonly parametrizations: Parametrization[] = [];

  /**
   * The weight in use: `stored` passed through `parametrizations` in order. Without any it is `stored` itself, which
   * the parameter owns; with some it is a new tensor, which the enclosing `tidy` or the caller disposes of.
   */
  get value(): Tensor {
    return this.parametrizations.reduce((weight, p) => p.parametrize(weight), this.stored);
  }

  /** Writes the weight in use into the stored weight and drops the parametrizations. */
  mergeParametrizations(): void {
    if (this.parametrizations.length === 0) return;
    const merged = this.value;
    this.parametrizations.length = 0;
    this.assign(merged);
  }
}

/** A tensor of a module that is saved with it but not trained (running statistics, tables). */
export class Buffer extends Slot {
  /** Whether it belongs to the state dict. */
  readonly persistent: boolean;

  constructor(value: Tensor | LazyTensor, options: { persistent?: boolean } = {}) {
    super(value);
    this.persistent = options.persistent ?? true;
  }
}
