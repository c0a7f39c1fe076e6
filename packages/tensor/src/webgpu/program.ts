import { type TensorInfo, util } from '@tensorflow/tfjs-core';

/** The part of the webgpu backend that kernels use. */
export interface WebGpuBackend {
  runWebGPUProgram(program: object, inputs: TensorInfo[], dtype: string): TensorInfo;
  disposeData(dataId: TensorInfo['dataId']): boolean;
}

const WORKGROUP = 128;
/** The most workgroups along one axis that every device has. */
const MAX_WORKGROUPS = 65_535;

/**
 * A program that computes each element of the output by itself.
 * @param code WGSL that defines `element(index : i32) -> f32`.
 */
export function elementwiseProgram(shape: number[], variableNames: string[], shaderKey: string, code: string): object {
  const groups = Math.ceil(util.sizeFromShape(shape) / WORKGROUP);
  const x = Math.min(groups, MAX_WORKGROUPS);
  return {
    variableNames,
    outputShape: shape,
    shaderKey,
    workgroupSize: [WORKGROUP, 1, 1],
    dispatchLayout: { x: shape.map((_, axis) => axis) },
    dispatch: [x, Math.ceil(groups / x), 1],
    size: true,
    getUserCode: () => `${code}
      fn main(index : i32) {
        if (index < uniforms.size) {
          setOutputAtIndex(index, element(index));
        }
      }
    `,
  };
}
