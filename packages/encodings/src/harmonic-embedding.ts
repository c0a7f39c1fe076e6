import { cast, checkInteger, concat, cos, mul, ShapeError, sin, type Tensor, tidy } from '@ashlar/tensor';

/**
 * Coordinates as `[x, sin(x), cos(x), sin(2x), cos(2x), …, sin(2^(L-1) x), cos(2^(L-1) x)]`, each block over all axes and
 * without a factor of pi; differentiable.
 *
 * Source: Mildenhall et al., "NeRF" (2020, arXiv 2003.08934); in this form as in NeuS (2021, arXiv 2106.10689) and CQ-NIR
 * (2023).
 * @param points `[…, axes]`.
 * @param octaves `L`, at most 64: float32 points turn no finer, and much further angles overflow.
 * @returns `[…, axes (2 L + 1)]`.
 * @throws ShapeError for a scalar, ConfigError unless `octaves` is a whole number up to 64.
 */
export function harmonicEmbedding(points: Tensor, octaves: number): Tensor {
  checkInteger('harmonicEmbedding', 'octaves', octaves, 0, 64);
  if (points.rank === 0) throw new ShapeError('harmonicEmbedding: points must be [..., axes], not a scalar.');
  return tidy(() => {
    const x = cast(points, 'float32');
    const blocks = Array.from({ length: octaves }, (_, octave) => {
      const angles = mul(x, 2 ** octave);
      return [sin(angles), cos(angles)];
    });
    return concat([x, ...blocks.flat()], -1);
  });
}
