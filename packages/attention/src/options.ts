import { ConfigError, checkInteger } from '@ashlar/tensor';

/** @throws ConfigError unless `numHeads` divides `embedDim`. */
export function checkHeads(owner: string, embedDim: number, numHeads: number): void {
  checkInteger(owner, 'embedDim', embedDim);
  checkInteger(owner, 'numHeads', numHeads);
  if (embedDim % numHeads !== 0) {
    throw new ConfigError(`${owner}: embedDim is ${embedDim}; it must be a multiple of numHeads, ${numHeads}.`);
  }
}
