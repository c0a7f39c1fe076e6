import type { KernelConfig, TensorInfo } from '@tensorflow/tfjs-core';
import { elementwiseProgram, type WebGpuBackend } from './program.ts';

/** `A` are the rows, `B` and `C` the cosines and sines, `[rows, pairs]`. */
const code = (interleaved: boolean): string => `
  fn element(index : i32) -> f32 {
    let pairs = uniforms.bShape[1];
    let channel = index % (2 * pairs);
    let row = (index / (2 * pairs)) % uniforms.bShape[0];
    let first = ${interleaved ? 'channel % 2 == 0' : 'channel < pairs'};
    let pair = ${interleaved ? 'channel / 2' : 'channel % pairs'};
    let partner = A[index + select(-1, 1, first) * ${interleaved ? '1' : 'pairs'}];
    let angle = row * pairs + pair;
    return A[index] * B[angle] + select(partner, -partner, first) * C[angle];
  }
`;

/** The kernel of `rotaryEmbedding`. */
export const rotaryEmbeddingKernel: KernelConfig = {
  kernelName: 'RotaryEmbedding',
  backendName: 'webgpu',
  kernelFunc({ inputs, attrs, backend }) {
    const { x, cosines, sines } = inputs as { x: TensorInfo; cosines: TensorInfo; sines: TensorInfo };
    const { interleaved } = attrs as unknown as { interleaved: boolean };
    const key = `rotary_embedding_${interleaved}`;
    const program = elementwiseProgram(x.shape, ['A', 'B', 'C'], key, code(interleaved));
    return (backend as WebGpuBackend).runWebGPUProgram(program, [x, cosines, sines], 'float32');
  },
};
