export * from './grad-check.ts';
export * from './gradient-cases/index.ts';
export * from './no-leak.ts';
