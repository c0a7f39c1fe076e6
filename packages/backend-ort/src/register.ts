import type { KernelFunc, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core';
import { getKernelsForBackend, registerBackend, registerKernel } from '@tensorflow/tfjs-core';
import type { OrtBackend } from './backend.ts';
import { isNative } from './graph.ts';
import type { Inputs, Kernel } from './kernel.ts';
import { sizeOf } from './kernel.ts';
import { kernels } from './kernels/index.ts';
import { tracedPlan } from './kernels/traced.ts';
import { explain, explainUnknownKernels, unsupported } from './unsupported.ts';

export const BACKEND_NAME = 'ort';

function tensorsOf(inputs: NamedTensorInfoMap | undefined): TensorInfo[] {
  // Kernels of ragged tensors take lists of tensors.
  return Object.values(inputs ?? {})
    .flat()
    .filter((tensor) => tensor != null);
}

/** `always` makes every call that has an ONNX plan run it, however small: for tests. */
export const policy: { always: boolean } = { always: false };

/** A cpu kernel, run on this backend's values. */
function onCpu(name: string, cpu: KernelFunc): KernelFunc {
  return (args) => {
    const backend = args.backend as OrtBackend;
    const inputs = tensorsOf(args.inputs);
    backend.checkAlive(name, inputs);
    if (inTrace(backend, name, inputs)) return trace(backend, name, undefined, cpu, args);
    let out: TensorInfo | TensorInfo[];
    try {
      out = cpu(args);
    } catch (cause) {
      throw explain(name, inputs, cause);
    }
    backend.trackAliases(inputs, Array.isArray(out) ? out : [out]);
    return out;
  };
}

/** Whether the call suits ONNX graphs at all, and its size for the threshold: the elements of the largest input. */
function measure(inputs: readonly TensorInfo[]): { native: boolean; size: number } {
  let size = 0;
  for (const { dtype, shape } of inputs) {
    const n = sizeOf(shape);
    if (n === 0 || !isNative(dtype)) return { native: false, size };
    if (n > size) size = n;
  }
  return { native: true, size };
}

function natively(kernel: Kernel, fallback: KernelFunc): KernelFunc {
  return (args) => {
    const backend = args.backend as OrtBackend;
    const inputs = args.inputs as Inputs;
    const attrs = (args.attrs ?? {}) as Record<string, unknown>;
    const tensors = tensorsOf(inputs);
    backend.checkAlive(kernel.name, tensors);
    if (inTrace(backend, kernel.name, tensors)) return trace(backend, kernel.name, kernel, fallback, args);
    const { native, size } = measure(tensors);
    if (!native) return fallback(args);
    kernel.check?.(backend, inputs, attrs);
    const inJs = (): TensorInfo | TensorInfo[] => kernel.small?.(backend, inputs, attrs) ?? fallback(args);
    if (!backend.native) return inJs();
    if (!policy.always && (kernel.size ? kernel.size(inputs, attrs) : size) < kernel.threshold) return inJs();
    const plan = kernel.plan(inputs, attrs);
    if (!plan || plan.outputs.some(({ shape }) => sizeOf(shape) === 0)) return inJs();
    const outputs = backend.execute(kernel.name, plan);
    return outputs.length === 1 && !MANY.has(kernel.name) ? outputs[0]! : outputs;
  };
}

/** Kernels whose result is their input under another shape, without a look at its values. */
const VIEWS: ReadonlySet<string> = new Set(['ExpandDims', 'Identity', 'Reshape']);

/** Whether the call belongs into the graph being traced: what is known when tracing is computed once, and constant. */
function inTrace(backend: OrtBackend, name: string, inputs: readonly TensorInfo[]): boolean {
  if (!backend.trace) return false;
  return name === 'Fill' || inputs.some(({ dataId }) => backend.trace!.find(dataId) !== undefined);
}

function trace(
  backend: OrtBackend,
  name: string,
  kernel: Kernel | undefined,
  fallback: KernelFunc,
  args: Parameters<KernelFunc>[0],
): TensorInfo | TensorInfo[] {
  if (VIEWS.has(name)) return fallback(args);
  const inputs = args.inputs as Inputs;
  const attrs = (args.attrs ?? {}) as Record<string, unknown>;
  const tensors = tensorsOf(inputs);
  const plan = measure(tensors).native ? (kernel?.plan(inputs, attrs) ?? tracedPlan(name, inputs, attrs)) : undefined;
  if (!plan) {
    const shapes = tensors.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(', ');
    throw new Error(
      `jit cannot trace ${name} on ${shapes}: it has no form in ONNX here. Run the function without jit, or compute ` +
        'this part outside of it.',
    );
  }
  const outputs = backend.trace!.run(name, plan);
  return outputs.length === 1 && !MANY.has(name) ? outputs[0]! : outputs;
}

/** Kernels whose result is a list even when it has one entry. */
const MANY: ReadonlySet<string> = new Set(['SplitV', 'Unpack', 'TopK']);

function missing(name: string): KernelFunc {
  return ({ inputs }) => {
    throw unsupported(name, tensorsOf(inputs));
  };
}

/** Register the backend, every cpu kernel under its name, and in front of them those that run natively. */
export function register(makeBackend: () => OrtBackend, priority: number): void {
  explainUnknownKernels(BACKEND_NAME);
  registerBackend(BACKEND_NAME, makeBackend, priority);
  const fallbacks = new Map<string, KernelFunc>();
  for (const { kernelName, kernelFunc } of getKernelsForBackend('cpu'))
    fallbacks.set(kernelName, onCpu(kernelName, kernelFunc));
  const native = new Map(kernels.map((kernel) => [kernel.name, kernel]));
  for (const kernelName of new Set([...fallbacks.keys(), ...native.keys()])) {
    const kernel = native.get(kernelName);
    const fallback = fallbacks.get(kernelName) ?? missing(kernelName);
    registerKernel({
      kernelName,
      backendName: BACKEND_NAME,
      kernelFunc: kernel ? natively(kernel, fallback) : fallback,
    });
  }
}
