import { ConfigError } from './errors.ts';
import { philox4x32 } from './philox.ts';
import { quote } from './quote.ts';

const TWO_32 = 0x100000000;

/** Set in the last counter word while hashing, where a stream has 0: a hash never meets a stream's own blocks. */
const SEED_DOMAIN = 1;
const FORK_DOMAIN = 2;

/** The Philox key of a seed, as `new Rng(seed)` takes it. */
export function seedKey(seed: number | bigint | string): [number, number] {
  if (typeof seed === 'string') return hash([0, 0], SEED_DOMAIN, seed);
  if (typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0) {
    return [seed >>> 0, Math.floor(seed / TWO_32)];
  }
  if (typeof seed === 'bigint' && seed === BigInt.asUintN(64, seed)) {
    return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  }
  throw new ConfigError(
    `Rng: seed is ${quote(seed)}; it may be a whole number in [0, 2^53), a bigint in [0, 2^64) or a string`,
  );
}

/** The key of the stream that `parent` calls `name`. */
export function forkKey(parent: [number, number], name: string): [number, number] {
  return hash(parent, FORK_DOMAIN, name);
}

/** A new key from a key and a text: Philox as the compression function, over blocks of four UTF-16 units. */
function hash(key: [number, number], domain: number, text: string): [number, number] {
  const out = new Uint32Array(4);
  let [k0, k1] = key;
  for (let i = 0; i === 0 || i < text.length; i += 4) {
    const [a, b, c, d] = [0, 1, 2, 3].map((j) => (i + j < text.length ? text.charCodeAt(i + j) : 0));
    philox4x32(a | (b << 16), c | (d << 16), text.length, domain, k0, k1, out, 0);
    [k0, k1] = out;
  }
  return [k0, k1];
}
