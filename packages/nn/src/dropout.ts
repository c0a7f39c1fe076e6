import { ConfigError, Module, mul, type Rng, type ShapeMap, type Tensor } from '@ashlar/tensor';

/**
 * Inverted dropout (Srivastava et al. 2014): in training each element is zeroed with probability `p`, the rest scaled by
 * `1 / (1 - p)`; in evaluation `x` itself is returned. Each module draws from a generator of its own.
 */
export class Dropout extends Module {
  readonly p: number;
  /** The generator of the masks; its state belongs to a checkpoint. */
  readonly rng: Rng;

  /** @throws ConfigError unless `p` is in [0, 1). */
  constructor(p: number, rng: Rng) {
    super();
    if (!(p >= 0 && p < 1)) throw new ConfigError(`Dropout's p is ${p}; it must be in [0, 1).`);
    this.p = p;
    this.rng = rng;
  }

  override forward(x: Tensor): Tensor {
    if (!this.training || this.p === 0) return x;
    const keep = this.rng.bernoulli(x.shape as ShapeMap['R4'], 1 - this.p);
    return mul(x, mul(keep, 1 / (1 - this.p)));
  }
}
