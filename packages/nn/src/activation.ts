import { ConfigError, closestNames, gelu, relu, silu, type Tensor, tanh } from '@ashlar/tensor';

/** Activations under the names of Hugging Face configs (`hidden_act`, `activation_function`). */
const ACTIVATIONS: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  gelu: (x) => gelu(x),
  gelu_new: (x) => gelu(x, { approximate: 'tanh' }),
  gelu_pytorch_tanh: (x) => gelu(x, { approximate: 'tanh' }),
  relu: (x) => relu(x),
  silu: (x) => silu(x),
  swish: (x) => silu(x),
  tanh: (x) => tanh(x),
};

/** The names that `activation` knows. */
export const activationNames: readonly string[] = Object.keys(ACTIVATIONS);

/** The activation of that name. @throws ConfigError naming those there are. */
export function activation(name: string): (x: Tensor) => Tensor {
  if (Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  const close = closestNames(name, activationNames).join(', ');
  throw new ConfigError(
    `activation is '${name}'; it must be one of ${activationNames.join(', ')} (closest: ${close}).`,
  );
}
