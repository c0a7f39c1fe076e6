import { getKernel, type KernelConfig, type TensorInfo, util } from '@tensorflow/tfjs-core';

/**
 * tfjs's shader fails for more than four axes (WGSL's vectors end there), as the gradients of slices of such tensors
 * find. This one joins neighbouring axes that are not padded first; what has more than four axes then still fails.
 */
export function padOfJoinedAxes(): KernelConfig {
  const { kernelFunc, ...config } = getKernel('PadV2', 'webgpu')!;
  return {
    ...config,
    kernelFunc(args) {
      const x = args.inputs.x as TensorInfo;
      if (x.shape.length <= 4) return kernelFunc(args);
      const { paddings, constantValue } = args.attrs as unknown as {
        paddings: [number, number][];
        constantValue: number;
      };
      const joined: { size: number; padding: [number, number] }[] = [];
      for (const [axis, size] of x.shape.entries()) {
        const padding = paddings[axis];
        const last = joined.at(-1);
        if (last !== undefined && util.arraysEqual([...last.padding, ...padding], [0, 0, 0, 0])) last.size *= size;
        else joined.push({ size, padding });
      }
      const padded = kernelFunc({
        ...args,
        inputs: { x: { ...x, shape: joined.map(({ size }) => size) } },
        attrs: { paddings: joined.map(({ padding }) => padding), constantValue },
      }) as TensorInfo;
      return { ...padded, shape: x.shape.map((size, axis) => size + paddings[axis][0] + paddings[axis][1]) };
    },
  };
}
