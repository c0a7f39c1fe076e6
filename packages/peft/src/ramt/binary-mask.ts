import {
  cast,
  clone,
  fill,
  greater,
  Module,
  mul,
  Parameter,
  straightThrough,
  type Tensor,
  tensor,
  tidy,
} from '@ashlar/tensor';
import type { AdapterParametrization } from '../parametrized-model.ts';

/**
 * A binary mask over a weight: `M * W` with `M = 1` where the mask variable `m > tau`, else 0. The gradient goes straight
 * through the threshold, everywhere: `dL/dm = dL/d(M * W) * W`, so that weights that are off can come back.
 */
export class BinaryMask extends Module<[Tensor], Tensor> implements AdapterParametrization {
  /** `m`, of the weight's shape. */
  readonly mask: Parameter;
  readonly tau: number;
  readonly #init: number;
  enabled = true;

  constructor(shape: readonly number[], { tau, init }: { tau: number; init: number }) {
    super();
    this.mask = new Parameter({ shape, init: () => fill([...shape], init) });
    this.tau = tau;
    this.#init = init;
  }

  override signature(): string {
    return `${super.signature()}${this.enabled ? '' : ' off'}`;
  }

  /** `M`: ones and zeros, with the gradient of `m`. The caller disposes of it. */
  binary(): Tensor {
    return tidy(() => {
      const m = this.mask.value;
      return straightThrough(cast(greater(m, this.tau), 'float32'), m);
    });
  }

  parametrize(weight: Tensor): Tensor {
    return this.enabled ? tidy(() => mul(this.binary(), weight)) : clone(weight);
  }

  override forward(weight: Tensor): Tensor {
    return this.parametrize(weight);
  }

  /** The mask row by row, eight weights a byte, the most significant bit first, the last byte filled up with zeros. */
  bits(): Uint8Array {
    const on = this.mask.stored.dataSync<'float32'>();
    const tau = Math.fround(this.tau);
    const bytes = new Uint8Array(Math.ceil(on.length / 8));
    for (const [i, m] of on.entries()) if (m > tau) bytes[i >> 3] |= 128 >> (i & 7);
    return bytes;
  }

  /** What is wrong with `bytes` as bits of this mask, if anything is. */
  problemWith(bytes: Uint8Array): string | undefined {
    const { size } = this.mask;
    const wanted = Math.ceil(size / 8);
    if (bytes.length !== wanted) return `${bytes.length} bytes; a mask of ${size} weights has ${wanted}`;
    const behind = size % 8;
    return behind > 0 && (bytes[wanted - 1] & (255 >> behind)) !== 0
      ? 'bits behind the last weight are set'
      : undefined;
  }

  /** Sets the mask from its bits: the variables of weights that are on become `init`, the others as far below `tau`. */
  setBits(bytes: Uint8Array): void {
    const { size, shape } = this.mask;
    const [on, off] = [this.#init, 2 * this.tau - this.#init];
    const values = Float32Array.from({ length: size }, (_, i) => (bytes[i >> 3] & (128 >> (i & 7)) ? on : off));
    this.mask.assign(tensor(values, shape));
  }

  /** The share of weights that are off. */
  get sparsity(): number {
    const tau = Math.fround(this.tau);
    return this.mask.stored.dataSync<'float32'>().filter((m) => !(m > tau)).length / this.mask.size;
  }
}
