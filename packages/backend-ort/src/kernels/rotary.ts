import type { TensorInfo } from '@tensorflow/tfjs-core';
import { ELEMENTWISE_THRESHOLD, type Kernel, kernel, sizeOf, whole } from '../kernel.ts';

interface RotaryInputs {
  /** `[.., rows, 2 pairs]`. */
  x: TensorInfo;
  /** `[rows, pairs]`. */
  cosines: TensorInfo;
  sines: TensorInfo;
}

/** `@ashlar/tensor`'s own kernel: `(a, b)` becomes `(a cos - b sin, b cos + a sin)`, in one pass instead of eight. */
const rotaryEmbedding = kernel<RotaryInputs, { interleaved: boolean }>({
  name: 'RotaryEmbedding',
  threshold: ELEMENTWISE_THRESHOLD,
  plan({ x, cosines, sines }, { interleaved }) {
    if (![x, cosines, sines].every(({ dtype }) => dtype === 'float32')) return undefined;
    const [rows, width] = x.shape.slice(-2) as [number, number];
    const view = [1, sizeOf(x.shape.slice(0, -2)), rows, width];
    return {
      key: String(interleaved),
      inputs: [{ tensor: x, shape: view }, whole(cosines), whole(sines)],
      outputs: [{ shape: x.shape, view, dtype: 'float32' }],
      emit: (g, [rows, c, s]) =>
        // Row 0 of the rows takes row 0 of the tables, and so on.
        g.op('RotaryEmbedding', [rows!, g.constant('int64', [0]), c!, s!], { interleaved: interleaved ? 1 : 0 }),
    };
  },
  small(backend, { x, cosines, sines }, { interleaved }) {
    const [from, cos, sin] = [x, cosines, sines].map((input) => backend.values(input)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const [rows, pairs] = cosines.shape as [number, number];
    const [first, second, step] = interleaved ? [0, 1, 2] : [0, pairs, 1];
    const { tensor, values } = backend.allocate(x.shape, 'float32');
    for (let i = 0; i < from.length; i += 2 * pairs) {
      const row = ((i / (2 * pairs)) % rows) * pairs;
      for (let pair = 0; pair < pairs; pair++) {
        const [a, b] = [i + first + step * pair, i + second + step * pair];
        values[a] = from[a]! * cos[row + pair]! - from[b]! * sin[row + pair]!;
        values[b] = from[b]! * cos[row + pair]! + from[a]! * sin[row + pair]!;
      }
    }
    return tensor;
  },
});

export const rotaryKernels: readonly Kernel[] = [rotaryEmbedding];
