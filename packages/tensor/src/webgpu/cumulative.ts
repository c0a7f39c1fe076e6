import { getKernel, type KernelConfig, type TensorInfo } from '@tensorflow/tfjs-core';
import type { WebGpuBackend } from './program.ts';

/**
 * tfjs writes the length into the shader of reversed sums and products, and takes that shader again for other lengths, with
 * wrong results. These go forward over the reversed input instead.
 */
export function cumulative(kernelName: 'Cumsum' | 'Cumprod'): KernelConfig {
  const { kernelFunc, ...config } = getKernel(kernelName, 'webgpu')!;
  const turn = getKernel('Reverse', 'webgpu')!.kernelFunc;
  return {
    ...config,
    kernelFunc({ inputs, attrs, backend }) {
      const { axis, reverse, ...others } = attrs as unknown as { axis: number; exclusive: boolean; reverse: boolean };
      const forward = (x: TensorInfo): TensorInfo =>
        kernelFunc({ inputs: { x }, attrs: { axis, reverse: false, ...others }, backend }) as TensorInfo;
      const x = inputs.x as TensorInfo;
      if (!reverse) return forward(x);
      const reversed = (x: TensorInfo): TensorInfo =>
        turn({ inputs: { x }, attrs: { dims: [axis] }, backend }) as TensorInfo;
      const turned = reversed(x);
      const sums = forward(turned);
      const result = reversed(sums);
      for (const { dataId } of [turned, sums]) (backend as WebGpuBackend).disposeData(dataId);
      return result;
    },
  };
}
