import {
  Buffer,
  cast,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  concat,
  cos,
  Module,
  matMul,
  mul,
  type Rng,
  reshape,
  ShapeError,
  sin,
  type Tensor,
  tidy,
} from '@ashlar/tensor';

/**
 * Random Fourier features of coordinates: `[cos(2 pi B x), sin(2 pi B x)]` with `B` from a normal distribution, drawn once.
 * `std` sets how fine a structure a network on them learns.
 *
 * Source: Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains" (2020,
 * arXiv 2006.10739).
 */
export class FourierFeatures extends Module<[Tensor]> {
  /** `[features, axes]`, saved with the module and not trained. */
  readonly B: Buffer;

  /**
   * @param options.axes coordinates of a point.
   * @param options.features frequencies; the output is twice as wide.
   * @param options.std of the frequencies, in turns per unit of the coordinates. Default 1.
   */
  constructor(options: { readonly axes: number; readonly features: number; readonly std?: number; readonly rng: Rng }) {
    super();
    const { axes, features, std = 1, rng } = checkOptions('FourierFeatures', options);
    checkInteger('FourierFeatures', 'axes', axes);
    checkInteger('FourierFeatures', 'features', features);
    checkNumber('FourierFeatures: std', std, { above: 0 });
    checkRng('FourierFeatures', rng);
    const shape: [number, number] = [features, axes];
    this.B = new Buffer({ shape, init: () => rng.normal(shape, { std }) });
  }

  /**
   * `[…, axes]` to `[…, 2 features]`.
   * @throws ShapeError for another number of axes.
   */
  forward(points: Tensor): Tensor {
    const [features, axes] = this.B.shape;
    if (points.rank === 0 || points.shape[points.rank - 1] !== axes) {
      throw new ShapeError(`FourierFeatures: points must be [..., ${axes}], not [${points.shape}].`);
    }
    return tidy(() => {
      const rows = reshape(cast(points, 'float32'), [-1, axes]);
      const angles = mul(matMul(rows, this.B.stored, false, true), 2 * Math.PI);
      return reshape(concat([cos(angles), sin(angles)], 1), [...points.shape.slice(0, -1), 2 * features]);
    });
  }
}
