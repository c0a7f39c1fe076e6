/** `scale * product of sizes[i] ** powers[i] + offset`: how a number in a graph depends on sizes that may vary. */
export interface SizeFormula {
  readonly scale: number;
  readonly powers: readonly number[];
  readonly offset: number;
}

export const isFixed = ({ scale }: SizeFormula): boolean => scale === 0;

/** The exponents worth trying for `n` sizes, lowest degree first. */
function exponents(n: number): number[][] {
  let all: number[][] = [[]];
  for (let i = 0; i < n; i++) all = all.flatMap((powers) => [0, 1, 2].map((power) => [...powers, power]));
  const degree = (powers: readonly number[]): number => powers.reduce((a, b) => a + b, 0);
  return all.filter((powers) => degree(powers) > 0).sort((a, b) => degree(a) - degree(b));
}

/**
 * The formula with whole numbers that gives `values[k]` for the sizes `sizes[k]`, in every sample `k`; `undefined` if
 * there is none.
 */
export function fitSizes(values: readonly number[], sizes: readonly (readonly number[])[]): SizeFormula | undefined {
  const n = sizes[0]!.length;
  if (values.every((value) => value === values[0])) {
    return { scale: 0, powers: new Array<number>(n).fill(0), offset: values[0]! };
  }
  for (const powers of exponents(n)) {
    const products = sizes.map((sample) => sample.reduce((product, size, i) => product * size ** powers[i]!, 1));
    const k = products.findIndex((product) => product !== products[0]);
    const scale = (values[k]! - values[0]!) / (products[k]! - products[0]!);
    if (!Number.isInteger(scale) || scale === 0) continue;
    const offset = values[0]! - scale * products[0]!;
    if (values.every((value, j) => value === scale * products[j]! + offset)) return { scale, powers, offset };
  }
  return undefined;
}
