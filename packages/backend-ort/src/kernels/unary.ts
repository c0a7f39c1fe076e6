import type { TensorInfo } from '@tensorflow/tfjs-core';
import { backend_util } from '@tensorflow/tfjs-core';
import type { Emitter, NativeDType, Param, Value } from '../graph.ts';
import type { Kernel } from '../kernel.ts';
import { ELEMENTWISE_THRESHOLD, flat, kernel } from '../kernel.ts';

/** Elementwise functions of one tensor, `y = f(x)`, computed on the tensor as a vector. */

type Emit = (g: Emitter, x: Value, params: readonly Value[]) => Value;

interface Options {
  /** Input types computed natively; others use the cpu kernel. */
  dtypes?: readonly NativeDType[];
  /** Output type, where it is not the input's. */
  out?: NativeDType;
  params?(attrs: Record<string, number>): Param[];
  threshold?: number;
}

function unary(name: string, emit: Emit, options: Options = {}): Kernel {
  const { dtypes = ['float32'], out, params, threshold = ELEMENTWISE_THRESHOLD } = options;
  return kernel<{ x: TensorInfo }, Record<string, number>>({
    name,
    threshold,
    plan({ x }, attrs) {
      if (!dtypes.includes(x.dtype as NativeDType)) return undefined;
      const operand = flat(x);
      return {
        key: '',
        inputs: [operand],
        params: params?.(attrs),
        outputs: [{ shape: x.shape, view: operand.shape, dtype: out ?? (x.dtype as NativeDType) }],
        elementwise: true,
        emit: (g, [value], p) => emit(g, value!, p),
      };
    },
  });
}

/** A kernel that is one ONNX node of one input. */
const direct = (name: string, op: string = name, options?: Options): Kernel =>
  unary(name, (g, x) => g.op(op, [x]), options);

const float = (value: number): Param => ({ type: 'float32', value });

/** Below this, `log(1 + exp(x))` in float32 loses `exp(x)`; tfjs switches to `exp(x)` here. */
const SOFTPLUS_SMALL = Math.log(1.1920928955078125e-7) + 2;

/** Activations, also used after a fused matrix product or convolution. */
export const ACTIVATIONS: Readonly<Record<string, Emit>> = {
  linear: (_g, x) => x,
  relu: (g, x) => g.op('Relu', [x]),
  relu6: (g, x) => g.op('Min', [g.op('Relu', [x]), g.constant('float32', 6)]),
  elu: (g, x) => g.op('Elu', [x]),
  sigmoid: (g, x) => g.op('Sigmoid', [x]),
};

export const unaryKernels: readonly Kernel[] = [
  direct('Abs', 'Abs', { dtypes: ['float32', 'int32'] }),
  direct('Neg', 'Neg', { dtypes: ['float32', 'int32'] }),
  direct('Acos'),
  direct('Acosh'),
  direct('Asin'),
  direct('Asinh'),
  direct('Atan'),
  direct('Atanh'),
  direct('Ceil'),
  direct('Cos'),
  direct('Cosh'),
  direct('Erf'),
  direct('Exp'),
  direct('Floor'),
  direct('IsNan', 'IsNaN', { out: 'bool' }),
  direct('IsInf', 'IsInf', { out: 'bool' }),
  direct('Log'),
  direct('LogicalNot', 'Not', { dtypes: ['bool'] }),
  direct('Reciprocal'),
  direct('Round'),
  direct('Sin'),
  direct('Sinh'),
  direct('Sqrt'),
  direct('Tanh'),
  unary('Relu', ACTIVATIONS.relu!),
  unary('Relu6', ACTIVATIONS.relu6!),
  unary('Elu', ACTIVATIONS.elu!),
  unary('Sigmoid', ACTIVATIONS.sigmoid!),
  unary('Selu', (g, x) =>
    g.op('Selu', [x], {
      alpha: { float: backend_util.SELU_SCALEALPHA / backend_util.SELU_SCALE },
      gamma: { float: backend_util.SELU_SCALE },
    }),
  ),
  unary('Softplus', (g, x) =>
    g.op('Where', [g.op('Less', [x, g.constant('float32', SOFTPLUS_SMALL)]), g.op('Exp', [x]), g.op('Softplus', [x])]),
  ),
  unary('Rsqrt', (g, x) => g.op('Reciprocal', [g.op('Sqrt', [x])])),
  unary('Square', (g, x) => g.op('Mul', [x, x]), { dtypes: ['float32', 'int32'] }),
  unary('Sign', (g, x) => {
    const zero = g.constant('float32', 0);
    const positive = g.op('Cast', [g.op('Greater', [x, zero])], { to: 1 });
    return g.op('Sub', [positive, g.op('Cast', [g.op('Less', [x, zero])], { to: 1 })]);
  }),
  unary('IsFinite', (g, x) => g.op('Less', [g.op('Abs', [x]), g.constant('float32', Number.POSITIVE_INFINITY)]), {
    out: 'bool',
  }),
  unary(
    'Step',
    // NaN stays NaN; otherwise 1 where x > 0 and alpha elsewhere.
    (g, x, [alpha]) => {
      const zero = g.constant('float32', 0);
      const step = g.op('Where', [g.op('Greater', [x, zero]), g.constant('float32', 1), alpha!]);
      return g.op('Where', [g.op('IsNaN', [x]), x, step]);
    },
    { params: ({ alpha }) => [float(alpha!)] },
  ),
  unary(
    'LeakyRelu',
    (g, x, [alpha]) => g.op('Where', [g.op('Less', [x, g.constant('float32', 0)]), g.op('Mul', [x, alpha!]), x]),
    { params: ({ alpha }) => [float(alpha!)] },
  ),
  unary('ClipByValue', (g, x, [low, high]) => g.op('Clip', [x, low!, high!]), {
    params: ({ clipValueMin, clipValueMax }) => [float(clipValueMin!), float(clipValueMax!)],
  }),
];
