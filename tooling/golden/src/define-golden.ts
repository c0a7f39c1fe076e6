import type { Tensor } from '@ashlar/tensor';

/** A value of a golden file: `{shape, data}` stands for a tensor, everything else for itself. */
export type GoldenJson = number | string | boolean | null | GoldenJson[] | { [name: string]: GoldenJson };

/** An input as a registered function gets it. */
export type GoldenInput = Tensor | number | string | boolean | null | undefined | GoldenInput[] | GoldenInputs;
export type GoldenInputs = { [name: string]: GoldenInput };

/**
 * An output as a registered function may return it. Where a file expects a tensor: a tensor, or `{shape, data}` for
 * results in float64; where it expects a list: an array, a typed array or a tensor.
 */
export type GoldenOutput =
  | Tensor
  | Undetermined
  | number
  | string
  | boolean
  | null
  | undefined
  | ArrayLike<number>
  | readonly GoldenOutput[]
  | GoldenOutputs;
/**
 * A float32 output of which the method leaves some numbers to rounding, so that the reference's are no more right than
 * others: element `i` is compared with `by[i]` added to the tolerance. The replay names it, and `why`.
 */
export class Undetermined {
  readonly value: Tensor;
  readonly by: ArrayLike<number>;
  readonly why: string;

  constructor(value: Tensor, by: ArrayLike<number>, why: string) {
    this.value = value;
    this.by = by;
    this.why = why;
  }
}

export type GoldenOutputs = { readonly [name: string]: GoldenOutput };

/**
 * One function of a method. `inputs` holds the file's inputs by name; an optional one (a bias, a mask) is absent where
 * the file omits it. Each `{shape, data}` is a float32 tensor (int32 or bool if the file gives such a `dtype`; the
 * files rarely do, so cast indices and labels). `raw` holds the same inputs as the file has them, in float64, `about` what
 * the file says of the case in words (a mode that is no input).
 *
 * The inputs are disposed by the replay, and so are the returned tensors; every other tensor left is a leak.
 *
 * Declared as a method so that an entry may annotate its parameter with just the inputs it reads.
 */
export type GoldenFunction = {
  call(
    inputs: { [name: string]: unknown },
    raw: { [name: string]: GoldenJson },
    about: { readonly case: string; readonly description?: string },
  ): GoldenOutputs | Promise<GoldenOutputs>;
}['call'];

/** Entries by `method/function`, as the default export of a package's `test/golden.ts`. */
export type GoldenEntries = Record<string, GoldenFunction>;

/**
 * Registers a package's functions with the replay tool.
 *
 * ```ts
 * export default defineGolden({
 *   'lora/linear': ({ x, weight, bias }: { x: Tensor2D; weight: Tensor2D; bias?: Tensor1D }) => ({ y: … }),
 * });
 * ```
 */
export function defineGolden(entries: GoldenEntries): GoldenEntries {
  return entries;
}
