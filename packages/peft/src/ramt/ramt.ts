import { Conv1D, Conv2d, Embedding, Linear } from '@ashlar/nn';
import { type AnyModule, ConfigError, FormatError, quote, type Tensor, type TensorBytes } from '@ashlar/tensor';
import {
  namingSource,
  ownConfig,
  ownOptions,
  PREFIX,
  readAdapterConfig,
  TARGET_FIELDS,
  writeAdapterFiles,
} from '../adapter-files.ts';
import { checksum } from '../checksum.ts';
import type { AttachOptions, Method } from '../method.ts';
import { loadInto, ParametrizedModel } from '../parametrized-model.ts';
import { targetPaths, withTargets } from '../targets.ts';
import { BinaryMask } from './binary-mask.ts';
import { type CheckedRamtConfig, checkRamtConfig, type RamtConfig } from './config.ts';

/**
 * Mask tuning (R-AMT): a learned bit for each weight says whether it takes part; the weights stay as they are. `M * W` with
 * `M = 1[m > tau]` and straight-through gradients to `m`. One bit per weight in a file, no cost at inference once merged.
 * Without `targetModules` the projections of all attention layers are masked (AMT); biases never are.
 *
 * Train with Adam and without weight decay, which pushes all mask variables towards off. An entry moves by about the
 * learning rate a step: `(init - tau) / rate` steps switch one off, 62 at the paper's 8e-5. Add `maskNormPenalty(masks())` to the
 * loss. What the model could do before is kept by `maskGradients`, gradient dropout against the knowledge loss.
 *
 * Source: Zheng et al. 2023, "Regularized Mask Tuning", arXiv 2307.15049; github.com/wuw2019/R-AMT.
 * @throws ConfigError for options out of range, if no module matches, or if a weight is tied.
 */
export function ramt(config: RamtConfig = {}): Method<RamtModel> {
  const checked = checkRamtConfig(config);
  return { attach: (model, options) => new RamtModel(model, checked, options) };
}

const isAdaptable = (module: AnyModule): boolean =>
  [Linear, Conv1D, Conv2d, Embedding].some((kind) => module instanceof kind);

/** The masks of a model. While they are attached the base is frozen; `unload` gives it back as it was. */
export class RamtModel extends ParametrizedModel<BinaryMask> {
  readonly config: CheckedRamtConfig;
  /** Checksums of the masked weights by path. */
  readonly #base: ReadonlyMap<string, string>;

  constructor(model: AnyModule, config: RamtConfig, options: AttachOptions = {}) {
    const checked = checkRamtConfig(config);
    const targets = withTargets(model, { targetModules: 'attention', ...checked });
    const paths = targetPaths(model, targets, isAdaptable);
    super(model, options.name ?? 'default', paths, (_, { weight }) => new BinaryMask(weight.shape, checked));
    this.config = { ...checked, targetModules: paths };
    const weightOf = (path: string): Tensor => model.getParameter(`${path}.weight`).stored;
    this.#base = new Map(paths.map((path) => [path, checksum(weightOf(path).dataSync<'float32'>())]));
  }

  protected override describeLayer(): { r: number; scaling: number } {
    return { r: 1, scaling: 1 };
  }

  /** The share of masked weights that are off: of all together, and by path. */
  sparsity(): { overall: number; layers: Map<string, number> } {
    const layers = [...this.layers].map(([path, mask]) => [path, mask.sparsity, mask.mask.size] as const);
    const size = layers.reduce((sum, [, , n]) => sum + n, 0);
    const off = layers.reduce((sum, [, share, n]) => sum + share * n, 0);
    return { overall: off / size, layers: new Map(layers.map(([path, share]) => [path, share])) };
  }

  /** The mask variables in use, for `maskNormPenalty`. */
  masks(): Tensor[] {
    return [...this.layers.values()].map(({ mask }) => mask.value);
  }

  /** The bits by path, see `BinaryMask.bits`. */
  bits(): Map<string, Uint8Array> {
    return new Map([...this.layers].map(([path, mask]) => [path, mask.bits()]));
  }

  protected override toJson(baseModel?: string): Record<string, unknown> {
    const base = Object.fromEntries(this.#base);
    return ownConfig<RamtFile>('RAMT', { ...this.config, base }, FIELDS, baseModel);
  }

  /**
   * Writes the bits, with `peft_type` RAMT, and in the config a checksum of each masked weight: it loads onto exactly the base
   * that it was made for. The mask variables themselves are in `stateDict`.
   */
  override async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const bits = [...this.bits()].map(([path, data]): [string, TensorBytes] => [
      bitsName(path),
      { dtype: 'U8', shape: [data.length], data },
    ]);
    await writeAdapterFiles(dir, this.toJson(options.baseModel), bits);
  }

  protected override readConfig(dir: string): Promise<RamtFile> {
    return readFile(dir);
  }

  protected override takeOver(tensors: ReadonlyMap<string, Tensor>, source: string, { base }: RamtFile): void {
    this.unmerge();
    const names = new Map([...this.layers].map(([path, mask]) => [bitsName(path), mask]));
    const foreign = [...this.#base].filter(([path, own]) => base[path] !== own).map(([path]) => path);
    const problems = [
      ...[...names].flatMap(([name, mask]) => {
        const bytes = tensors.get(name);
        if (bytes === undefined) return `missing: ${name}`;
        const problem = mask.problemWith(bytesOf(bytes));
        return problem === undefined ? [] : `${name}: ${problem}`;
      }),
      ...[...tensors.keys()].filter((name) => !names.has(name)).map((name) => `unexpected: ${quote(name)}`),
      ...(foreign.length > 0 ? [`made for other base weights: ${foreign.join(', ')}`] : []),
    ];
    if (problems.length > 0) {
      throw new FormatError(`${source} does not fit this model and its config.\n  ${problems.join('\n  ')}`);
    }
    for (const [name, mask] of names) mask.setBits(bytesOf(tensors.get(name) as Tensor));
  }
}

/** The numbers of a tensor as bytes; none where they are not bytes. */
function bytesOf(tensor: Tensor): Uint8Array {
  const values = tensor.dataSync();
  return tensor.dtype === 'int32' && values.every((value) => value >= 0 && value < 256)
    ? Uint8Array.from(values)
    : new Uint8Array();
}

/**
 * Attaches the masks in `dir` to the model that they were made for. Their variables are then `init`, and as far below `tau`
 * where weights are off.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadRamt(model: AnyModule, dir: string, options: AttachOptions = {}): Promise<RamtModel> {
  const { base: _, ...config } = await readFile(dir);
  return loadInto(new RamtModel(model, config, options), dir);
}

const bitsName = (path: string): string => `${PREFIX}${path}.mask_bits`;

/** What an `adapter_config.json` of type RAMT holds. */
interface RamtFile extends RamtConfig {
  /** Checksums of the masked weights by path. */
  readonly base: Readonly<Record<string, string>>;
}

const { modules_to_save: _, ...TARGETS } = TARGET_FIELDS;
const FIELDS: Readonly<Record<string, keyof RamtFile>> = {
  ...(TARGETS as Readonly<Record<string, keyof RamtConfig>>),
  tau: 'tau',
  init: 'init',
  base: 'base',
};

async function readFile(dir: string): Promise<CheckedRamtConfig & RamtFile> {
  const { json, source } = await readAdapterConfig(dir);
  return namingSource(source, () => {
    const { base, ...config } = ownOptions<RamtFile>('RAMT', json, FIELDS, source);
    if (typeof base !== 'object' || Array.isArray(base)) {
      throw new ConfigError(`base is ${quote(base)}; it must be an object from paths to checksums.`);
    }
    return { ...checkRamtConfig(config), base };
  });
}
