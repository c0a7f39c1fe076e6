import { ConfigError, checkInteger } from '@ashlar/tensor';

/** @throws ConfigError naming the option unless each is a whole number of at least 1. */
export function checkSizes(owner: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) checkInteger(owner, name, size);
}

/** @throws ConfigError unless the heads fit: `heads` a multiple of `kvHeads`. */
export function checkHeads(owner: string, heads: number, kvHeads: number): void {
  checkSizes(owner, { heads, kvHeads });
  if (heads % kvHeads !== 0) {
    throw new ConfigError(`${owner}: heads is ${heads}; it must be a multiple of kvHeads, ${kvHeads}.`);
  }
}
