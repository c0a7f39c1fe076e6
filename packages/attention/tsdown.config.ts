export { default } from '../../tooling/build/tsdown.ts';
