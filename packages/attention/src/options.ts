import { ConfigError, checkInteger, quote, Rng } from '@ashlar/tensor';

/** @throws ConfigError unless there are options, with the generator that every layer draws its parameters from. */
export function checkOptions(owner: string, options: { readonly rng: Rng }): void {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigError(`${owner}: options is ${quote(options)}; it must be an object of them, rng included.`);
  }
  if (!(options.rng instanceof Rng)) {
    throw new ConfigError(`${owner}: rng is ${quote(options.rng)}; it must be an Rng, such as new Rng(0).`);
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
