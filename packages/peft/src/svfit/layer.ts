import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  Buffer,
  ConfigError,
  checkFinite,
  gatherRows,
  matMul,
  mul,
  Parameter,
  reshape,
  sub,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tidy,
  tile,
  transpose,
  zeros,
} from '@ashlar/tensor';
import { AdapterLayer } from '../adapter-layer.ts';

/** What SVFit sits on. */
export type SVFitBase = Linear | Conv1D | Conv2d | Embedding;

export const isAdaptable = (base: AnyModule): base is SVFitBase =>
  base instanceof Linear || base instanceof Conv1D || base instanceof Conv2d || base instanceof Embedding;

/** Frozen directions and the strengths along them: `u [rows, r]`, `s [r]`, `v [columns, r]`. */
export interface Directions {
  u: Tensor2D;
  s: Tensor1D;
  v: Tensor2D;
}

/**
 * A layer whose singular values train: with the weight as a matrix `W = U S V^T` (`[out, in]`; kernels flattened to
 * `[out, in kh kw]`, embeddings `[vocab, dim]`) and its directions `U_r`, `V_r` frozen,
 * `y = W x + b + U_r ((sigma - S_r) * V_r^T x)`, so that `W(sigma) = W + U_r diag(sigma - S_r) V_r^T`.
 */
export class SVFitLayer extends AdapterLayer<SVFitBase> {
  /** `[r]`, from `S_r`; or with the other parametrization `svfit_scale`, `c [r]` in `sigma = S (1 + c)`, from zero. */
  readonly svfit_sigma?: Parameter;
  readonly svfit_scale?: Parameter;
  readonly svfit_u: Buffer;
  readonly svfit_s: Buffer;
  readonly svfit_v: Buffer;
  #enabled = true;
  #merged = false;

  /** Takes ownership of the directions. */
  constructor(base: SVFitBase, { u, s, v }: Directions, parametrization: 'sigma' | 'scale' = 'sigma') {
    super(base);
    [this.svfit_u, this.svfit_s, this.svfit_v] = [u, s, v].map((tensor) => new Buffer(tensor, { persistent: false }));
    if (parametrization === 'sigma') this.svfit_sigma = new Parameter(s.clone());
    else this.svfit_scale = new Parameter(zeros(s.shape));
  }

  override signature(): string {
    return `${super.signature()}[${this.#enabled ? '' : 'off'}${this.#merged ? 'merged' : ''}]`;
  }

  get r(): number {
    return this.svfit_s.size;
  }

  /** What trains, by its name in a file. */
  get trained(): [name: 'svfit_sigma' | 'svfit_scale', parameter: Parameter] {
    const { svfit_sigma, svfit_scale } = this;
    return svfit_sigma === undefined ? ['svfit_scale', svfit_scale as Parameter] : ['svfit_sigma', svfit_sigma];
  }

  /** Turns the adapter on or off; it must not be merged. */
  set enabled(enabled: boolean) {
    this.#enabled = enabled;
  }

  get merged(): boolean {
    return this.#merged;
  }

  /** `sigma - S_r`. */
  #change(): Tensor {
    const s = this.svfit_s.stored;
    return this.svfit_sigma === undefined
      ? mul(s, (this.svfit_scale as Parameter).value)
      : sub(this.svfit_sigma.value, s);
  }

  /** `U_r diag(sigma - S_r) V_r^T` in the layout of the base weight. The caller disposes of it. */
  deltaWeight(): Tensor {
    return tidy(() => {
      const delta = matMul(mul(this.svfit_u.stored, this.#change()), this.svfit_v.stored, false, true);
      return this.base_layer instanceof Conv1D ? transpose(delta) : reshape(delta, this.base_layer.weight.shape);
    });
  }

  override forward(x: Tensor): Tensor {
    const y = this.base_layer.apply(x);
    return this.#enabled && !this.#merged ? add(y, this.#adaptation(x)) : y;
  }

  #adaptation(x: Tensor): Tensor {
    const [u, v] = [this.svfit_u.stored, this.svfit_v.stored];
    if (this.base_layer instanceof Conv2d) return this.#convolution(x, this.base_layer);
    if (this.base_layer instanceof Embedding) {
      const rows = mul(gatherRows(u, reshape(x, [-1])), this.#change());
      return reshape(matMul(rows, v, false, true), [...x.shape, v.shape[0]]);
    }
    const along = mul(matMul(reshape(x, [-1, v.shape[0]]), v), this.#change());
    return reshape(matMul(along, u, false, true), [...x.shape.slice(0, -1), u.shape[0]]);
  }

  /** `V_r` as kernels on every group of channels, then `U_r` at every place. */
  #convolution(x: Tensor, base: Conv2d): Tensor {
    const { r } = this;
    const { groups, outChannels } = base;
    const kernels = reshape(transpose(this.svfit_v.stored), [r, ...base.weight.shape.slice(1)]);
    const along = base.convolve(x, tile(kernels, [groups, 1, 1, 1]));
    const [batch, , height, width] = along.shape as number[];
    const scaled = mul(reshape(along, [batch, groups, r, height * width]), reshape(this.#change(), [r, 1]));
    const u = reshape(this.svfit_u.stored, [groups, outChannels / groups, r]);
    return reshape(matMul(u, scaled), [batch, outChannels, height, width]);
  }

  /**
   * Adds the delta to the base weight; `forward` then runs the base alone.
   * @param safe refuse a result that is not finite, leaving the weight as it was.
   */
  merge(safe = false): void {
    if (this.#merged) return;
    const { weight } = this.base_layer;
    if (weight.parametrizations.length > 0) {
      throw new ConfigError('The base weight has parametrizations; merge these first.');
    }
    const merged = tidy(() => {
      const sum = add(weight.stored, this.deltaWeight());
      if (safe) checkFinite([['weight', sum]], 'merged weight of adapter');
      return sum;
    });
    weight.assign(merged);
    this.#merged = true;
  }

  /** Takes the delta out of the base weight again, exact within float32 rounding. */
  unmerge(): void {
    if (!this.#merged) return;
    const { weight } = this.base_layer;
    weight.assign(tidy(() => sub(weight.stored, this.deltaWeight())));
    this.#merged = false;
  }

  /** Disposes of what the layer has besides its base. */
  release(): void {
    for (const slot of [this.svfit_sigma, this.svfit_scale, this.svfit_u, this.svfit_s, this.svfit_v]) slot?.dispose();
  }
}
