import './gradients.ts';

// Everything of TensorFlow.js; a name exported below it replaces tfjs's own of the same name.
export * from '@tensorflow/tfjs-core';
export * from './check-finite.ts';
export * from './errors.ts';
export * from './loss-and-grads.ts';
export * from './module.ts';
export * from './parameter.ts';
export * from './rng.ts';
export * from './seams.ts';
export * from './state-dict.ts';
