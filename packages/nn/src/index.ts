export * from './conv2d.ts';
export * from './dropout.ts';
export * from './embedding.ts';
export * from './init.ts';
export * from './linear.ts';
export * from './sequential.ts';
