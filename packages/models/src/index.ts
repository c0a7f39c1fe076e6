export { CausalLM, type CausalLMConfig, type CausalLMInput, type ModelOptions } from './causal-lm.ts';
export * from './generate.ts';
export { Gpt2, type Gpt2Config, gpt2Config } from './gpt2.ts';
export { Llama, type LlamaConfig, llamaConfig } from './llama.ts';
export * from './load.ts';
export { createModel, modelTypes } from './registry.ts';
