export * from './grad-check.ts';
export * from './no-leak.ts';
