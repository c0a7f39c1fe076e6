import type { KernelConfig, TensorInfo } from '@tensorflow/tfjs-core';
import { elementwiseProgram, type WebGpuBackend } from './program.ts';

/**
 * WGSL leaves `sin` and `cos` an error of 2^-11, which shows in position tables and rotations. This one takes the
 * nearest multiple of pi / 2 away, in three parts so that nothing is lost up to some 10^5, and evaluates the Taylor
 * series of what is left: an error of about 10^-7. Larger angles, which float32 hardly tells apart, get WGSL's own.
 * @param quarter 0 for the sine, 1 for the cosine: a quarter turn ahead.
 */
const code = (quarter: 0 | 1): string => `
  fn element(index : i32) -> f32 {
    let a = getAByOutputIndex(index);
    if (abs(a) > 200000.0) {
      return ${quarter === 0 ? 'sin' : 'cos'}(a);
    }
    let turns = round(a * 0.63661975);
    // fma keeps each product whole.
    var r = fma(turns, -1.5703125, a);
    r = fma(turns, -4.837512969970703e-4, r);
    r = fma(turns, -7.549789948768648e-8, r);
    let quarter = (i32(turns) + ${quarter}) & 3;
    let s = r * r;
    let odd = r + r * s * (-1.6666667e-1 + s * (8.333333e-3 + s * (-1.9841270e-4 + s * 2.7557319e-6)));
    let even = 1.0 + s * (-0.5 + s * (4.1666668e-2 + s * (-1.3888889e-3 + s * 2.4801587e-5)));
    let value = select(odd, even, (quarter & 1) == 1);
    return select(value, -value, quarter >= 2);
  }
`;

const kernel = (kernelName: 'Sin' | 'Cos', quarter: 0 | 1): KernelConfig => ({
  kernelName,
  backendName: 'webgpu',
  kernelFunc({ inputs, backend }) {
    const x = inputs.x as TensorInfo;
    const program = elementwiseProgram(x.shape, ['A'], `precise_sine_${quarter}`, code(quarter));
    return (backend as WebGpuBackend).runWebGPUProgram(program, [x], 'float32');
  },
});

/** A sine and a cosine of float32's precision. */
export const preciseSine: readonly KernelConfig[] = [kernel('Sin', 0), kernel('Cos', 1)];
