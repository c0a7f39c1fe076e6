import { ConfigError } from '@ashlar/tensor';

/** @throws ConfigError naming the option unless it is an integer of at least `min`. */
export function checkInteger(owner: string, option: string, value: number, min = 1): void {
  if (!Number.isInteger(value) || value < min) {
    throw new ConfigError(`${owner}: ${option} is ${value}; it must be an integer of at least ${min}.`);
  }
}

/** @throws ConfigError unless `numHeads` divides `embedDim`. */
export function checkHeads(owner: string, embedDim: number, numHeads: number): void {
  checkInteger(owner, 'embedDim', embedDim);
  checkInteger(owner, 'numHeads', numHeads);
  if (embedDim % numHeads !== 0) {
    throw new ConfigError(`${owner}: embedDim is ${embedDim}; it must be a multiple of numHeads, ${numHeads}.`);
  }
}
