import { add, Buffer, matMul, mul, Parameter, type Rng, reshape, type Tensor, tensor2d, tidy } from '@ashlar/tensor';
import { LayerGuest } from '../adapter-layer.ts';
import type { CheckedLofitConfig } from './config.ts';

/**
 * Scalings and offsets of some heads of one attention layer, `[..., heads headDim]` to the same:
 * `z'_i = (1 + A_i) * z_i + v_i` for the heads `i` that it has, at every position.
 */
export class LofitHeads extends LayerGuest {
  readonly heads: readonly number[];
  /** `[heads.length, headDim]`, both. */
  readonly A?: Parameter;
  readonly v?: Parameter;
  /** `[numHeads, heads.length]`: a one where a row is the head of a column. */
  readonly placement: Buffer;

  constructor(heads: readonly number[], numHeads: number, headDim: number, config: CheckedLofitConfig, rng: Rng) {
    super();
    this.heads = heads;
    const shape: [number, number] = [heads.length, headDim];
    const parameter = (name: string): Parameter =>
      new Parameter({ shape, init: () => rng.fork(name).normal(shape, { std: config.initStd }) });
    if (config.scale) this.A = parameter('A');
    if (config.offset) this.v = parameter('v');
    const places = Array.from({ length: numHeads }, (_, row) => heads.map((head) => Number(head === row)));
    this.placement = new Buffer(tensor2d(places), { persistent: false });
  }

  /** `1 + A` over all heads, `[numHeads headDim]`, or undefined without scalings. */
  factors(): Tensor | undefined {
    return this.A && tidy(() => add(this.#overAll(this.A as Parameter), 1));
  }

  /** `v` over all heads, zero for those that are not here, `[numHeads headDim]`; or undefined without offsets. */
  offsets(): Tensor | undefined {
    return this.v && tidy(() => this.#overAll(this.v as Parameter));
  }

  #overAll(rows: Parameter): Tensor {
    return reshape(matMul(this.placement.stored, rows.value), [-1]);
  }

  override forward(z: Tensor): Tensor {
    const [factors, offsets] = [this.factors(), this.offsets()];
    const scaled = factors === undefined ? z : mul(z, factors);
    return offsets === undefined ? scaled : add(scaled, offsets);
  }
}
