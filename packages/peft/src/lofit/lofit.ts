import { Conv1D, type Linear } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  ConfigError,
  checkFinite,
  clone,
  concat,
  divNoNan,
  euclideanNorm,
  FormatError,
  type HookHandle,
  keep,
  matMul,
  mean,
  mul,
  Parameter,
  quote,
  Rng,
  reshape,
  type Scalar,
  slice,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tidy,
  zeros,
} from '@ashlar/tensor';
import {
  assignTensors,
  namingSource,
  ownConfig,
  ownOptions,
  PREFIX,
  readAdapterConfig,
  readAdapterTensors,
  writeAdapterFiles,
} from '../adapter-files.ts';
import { refuseTied } from '../adapter-layer.ts';
import { refuse } from '../check-options.ts';
import { freezeBase, thawBase } from '../frozen-base.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from '../method.ts';
import { loadInto } from '../parametrized-model.ts';
import { countNumbers, fractionOf, trainingOf } from '../trainable.ts';
import { attentionOutputs, headWidth, type Projection } from './attention-outputs.ts';
import { type CheckedLofitConfig, checkLofitConfig, type Head, type LofitConfig } from './config.ts';
import { LofitHeads } from './heads.ts';
import { l1 } from './select-heads.ts';

/**
 * LoFiT: a constant vector, learned, on the outputs of a few attention heads, before the output projection:
 * `z' = z + v`. `K headDim` numbers for `K` heads; the base stays frozen. First find the heads by `selectHeads`, then train
 * their offsets (AdamW, 1e-2, no decay). It elicits what the model can do already; it does not move attention.
 *
 * Works through hooks on the output projections of any attention model (query heads, also with grouped keys).
 *
 * Source: Yin, Ye and Durrett 2024, arXiv 2406.01563; github.com/fc2869/lo-fit.
 * @throws ConfigError for options out of range, heads that the model does not have, a model without attention layers, or
 *   a projection that carries another adapter.
 */
export function lofit(config: LofitConfig = {}): Method<LofitModel> {
  const checked = checkLofitConfig(config);
  return { attach: (model, options) => new LofitModel(model, checked, options) };
}

interface Layer {
  readonly index: number;
  readonly path: string;
  readonly projection: Projection;
  readonly heads: LofitHeads;
  hook?: HookHandle;
  /** The projection's weight and bias before merging; no bias: it had none. */
  merged?: { weight?: Tensor; bias?: Tensor };
}

/** The LoFiT adapter of a model. While it is attached the base is frozen; `unload` gives the model back as it was. */
export class LofitModel implements AdapterHandle {
  readonly model: AnyModule;
  readonly name: string;
  readonly config: CheckedLofitConfig;
  /** Those of `config`, or all. */
  readonly heads: readonly Head[];
  readonly #layers: Layer[] = [];

  constructor(model: AnyModule, config: LofitConfig, options: AttachOptions = {}) {
    this.model = model;
    this.name = options.name ?? 'default';
    this.config = checkLofitConfig(config);
    const rng = (options.rng ?? new Rng(0)).fork(this.name);
    const outputs = attentionOutputs(model, this.config);
    this.heads = this.config.heads ?? outputs.flatMap(({ heads }, layer) => range(heads).map((i): Head => [layer, i]));
    for (const [layer, head] of this.heads) {
      if (head < (outputs[layer]?.heads ?? 0)) continue;
      throw new ConfigError(
        `There is no head [${layer}, ${head}]: the model has ${outputs.length} attention layers of ${outputs[0].heads} heads.`,
      );
    }
    const layers = outputs.flatMap((output, index) => {
      const own = this.heads.filter(([layer]) => layer === index).map(([, head]) => head);
      return own.length === 0 ? [] : [{ ...output, index, own, headDim: headWidth(output) }];
    });
    freezeBase(model, this);
    for (const { path, projection, index, own, heads: count, headDim } of layers) {
      const heads = new LofitHeads(own, count, headDim, this.config, rng.fork(path));
      this.#layers.push({ index, path, projection: projection as Projection, heads });
      (projection as { lofit?: LofitHeads }).lofit = heads;
    }
    this.enable();
  }

  /** The heads' parameters by path of their projection. */
  get layers(): ReadonlyMap<string, LofitHeads> {
    return new Map(this.#layers.map(({ path, heads }) => [path, heads]));
  }

  /** All that trains under its name in a file, less the prefix. */
  #own(): Map<string, Parameter> {
    const parameters = this.#layers.flatMap(({ path, heads }) => [...heads.namedParameters(`${path}.lofit.`)]);
    return new Map(parameters);
  }

  parameters(): Map<string, Parameter> {
    return trainingOf(this.model, this.#own().values());
  }

  get trainableFraction(): number {
    return fractionOf(this.model, this.parameters());
  }

  /** One line per layer with heads; `r` is their number. */
  describe(): AdapterDescription[] {
    return this.#layers.map(({ path, projection, heads }) => ({
      path,
      adapter: this.name,
      layer: projection.constructor.name,
      r: heads.heads.length,
      scaling: 1,
      parameters: countNumbers(heads.parameters()),
      baseParameters: projection.weight.size,
    }));
  }

  /** Hooks the adapter in again after `disable`. */
  enable(): void {
    for (const layer of this.#layers) {
      if (layer.merged !== undefined) continue;
      layer.hook ??= layer.projection.registerForwardPreHook(([z]) => [layer.heads.apply(z)]);
    }
  }

  /** Runs the base alone until `enable`; a merged adapter is unmerged. */
  disable(): void {
    for (const layer of this.#layers) {
      this.#unmerge(layer);
      layer.hook?.remove();
      layer.hook = undefined;
    }
  }

  /**
   * Writes the adapter into the output projections: `b += W v`, and `W <- W diag(1 + A)` where there are scalings. A
   * projection without a bias gets one.
   * @throws ConfigError where scalings would change a tied weight; with `safe`, NumericsError for values not finite.
   */
  merge(options: { safe?: boolean } = {}): void {
    if (this.config.scale) {
      refuseTied(
        this.model,
        this.#layers.map(({ path, projection }) => [path, projection.weight] as const),
      );
    }
    const open = this.#layers.filter(({ merged }) => merged === undefined);
    if (options.safe) for (const { path, heads } of open) checkFinite(stored(path, heads), 'adapter');
    for (const layer of open) {
      const { projection, heads } = layer;
      const { weight, bias } = projection;
      const columns = projection instanceof Conv1D ? [-1, 1] : [1, -1];
      const [factors, offsets] = [heads.factors(), heads.offsets()];
      layer.merged = {};
      if (offsets !== undefined) {
        const constant = tidy(() => {
          const product = matMul(reshape(offsets, [1, -1]), weight.stored, false, !(projection instanceof Conv1D));
          return reshape(product, [-1]);
        });
        if (bias === undefined) {
          projection.bias = new Parameter(constant);
          projection.bias.requiresGrad = false;
        } else {
          layer.merged.bias = bias.exchange(add(bias.stored, constant));
          constant.dispose();
        }
        offsets.dispose();
      }
      if (factors !== undefined) {
        layer.merged.weight = weight.exchange(tidy(() => mul(weight.stored, reshape(factors, columns))));
        factors.dispose();
      }
      layer.hook?.remove();
      layer.hook = undefined;
    }
  }

  /** Puts the projections' own weights back: exact. */
  unmerge(): void {
    for (const layer of this.#layers) if (layer.merged !== undefined) this.#unmerge(layer);
    this.enable();
  }

  #unmerge(layer: Layer): void {
    const { projection, merged } = layer;
    if (merged === undefined) return;
    if (merged.weight !== undefined) projection.weight.assign(merged.weight);
    if (merged.bias !== undefined) projection.bias?.assign(merged.bias);
    else if (this.config.offset) {
      projection.bias?.dispose();
      (projection as Linear).bias = undefined;
    }
    layer.merged = undefined;
  }

  mergeAndUnload(options: { safe?: boolean } = {}): AnyModule {
    this.merge(options);
    for (const { merged } of this.#layers) {
      merged?.weight?.dispose();
      merged?.bias?.dispose();
    }
    return this.#remove();
  }

  unload(): AnyModule {
    this.disable();
    return this.#remove();
  }

  #remove(): AnyModule {
    for (const { projection, heads } of this.#layers.splice(0)) {
      delete (projection as { lofit?: LofitHeads }).lofit;
      heads.dispose();
    }
    thawBase(this.model, this);
    return this.model;
  }

  /** `lambda sum |A|` over the scalings, with the gradient `lambda sign(A)`, `sign(0) = 0`: the loss term of stage 1. */
  l1Penalty(lambda: number): Scalar {
    return tidy(() => {
      const terms = this.#layers.flatMap(({ heads: { A } }) => (A === undefined ? [] : [l1(A.value, lambda)]));
      return terms.reduce((total, term) => add(total, term), zeros([])) as Scalar;
    });
  }

  /** `||A_i||_2` of each head of `heads`, in their order. @throws ConfigError without scalings. */
  scores(): number[] {
    if (!this.config.scale) throw new ConfigError('Heads are scored by their scalings; attach with scale: true.');
    const norms = new Map<string, number>();
    for (const { index, heads } of this.#layers) {
      const values = tidy(() => euclideanNorm((heads.A as Parameter).stored, 1).dataSync());
      for (const [i, head] of heads.heads.entries()) norms.set(String([index, head]), values[i]);
    }
    return this.heads.map((head) => norms.get(String(head)) as number);
  }

  /**
   * Sets the offsets to mean differences of activations instead of training them: `v = strength (mean(positive) -
   * mean(negative))` of each head's output at the last token, as in representation engineering (Zou et al. 2023, arXiv
   * 2310.01405); with `scaling: 'std'` as in inference-time intervention (Li et al. 2023, arXiv 2306.03341),
   * `v = strength std(activations along theta) theta`, `theta` the direction of that difference.
   * @param positive runs the model on examples that show what is wanted, `negative` on those that do not; each may run it
   *   several times.
   */
  setMeanDifference(
    positive: () => void,
    negative: () => void,
    options: { strength?: number; scaling?: 'difference' | 'std' } = {},
  ): void {
    const { strength = 1, scaling = 'difference' } = options;
    if (!Number.isFinite(strength)) refuse('strength', strength, 'a finite number');
    if (!['difference', 'std'].includes(scaling)) refuse('scaling', scaling, "'difference' or 'std'");
    if (!this.config.offset) throw new ConfigError('There are no offsets to set; attach with offset: true.');
    this.disable();
    tidy(() => {
      const [yes, no] = [this.#lastTokens(positive), this.#lastTokens(negative)];
      for (const [i, { heads }] of this.#layers.entries()) {
        const difference = sub(mean(yes[i], 0), mean(no[i], 0));
        heads.v?.assign(mul(scaling === 'std' ? alongStd(difference, [yes[i], no[i]]) : difference, strength));
      }
    });
    this.enable();
  }

  /** The outputs of each layer's heads at the last tokens of what `run` runs, `[examples, heads, headDim]`. */
  #lastTokens(run: () => void): Tensor[] {
    const seen = this.#layers.map((): Tensor[] => []);
    const hooks = this.#layers.map(({ projection, heads }, i) =>
      projection.registerForwardPreHook(([z]) => {
        const [batch, seq, width] = z.shape as [number, number, number];
        const count = heads.placement.shape[0];
        const all = reshape(slice(z, [0, seq - 1, 0], [batch, 1, width]), [batch, count, width / count]);
        seen[i].push(keep(matMul(heads.placement.stored, all, true)));
      }),
    );
    try {
      run();
    } finally {
      for (const hook of hooks) hook.remove();
    }
    return seen.map((parts) => {
      if (parts.length === 0) throw new ConfigError('The examples did not run the model.');
      const joined = concat(parts, 0);
      for (const part of parts) part.dispose();
      return joined;
    });
  }

  /** What trains under its names in a file: new tensors that the caller disposes of. */
  stateDict(): Map<string, Tensor> {
    return new Map([...this.#own()].map(([name, { stored }]) => [`${PREFIX}${name}`, clone(stored)]));
  }

  /** Copies what `stateDict` gave into the adapter. @throws FormatError listing all that does not fit. */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, source = 'The adapter'): void {
    this.unmerge();
    assignTensors(new Map([...this.#own()].map(([name, own]) => [`${PREFIX}${name}`, own])), tensors, { source });
  }

  /** Writes the adapter as `peft` lays its own out, with `peft_type` LOFIT. */
  async save(dir: string, options: { baseModel?: string } = {}): Promise<void> {
    const tensors = this.stateDict();
    const config = { ...this.config, heads: this.heads };
    try {
      await writeAdapterFiles(dir, ownConfig('LOFIT', config, FIELDS, options.baseModel), tensors);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }

  /**
   * Takes over the numbers of the adapter in `dir`, which must act on the heads of this one; `loadLofit` attaches any.
   * @throws FormatError naming the file and all that is wrong in it; the adapter is then as before.
   */
  async load(dir: string): Promise<void> {
    const { heads = [] } = await readConfig(dir);
    if (String(heads) !== String(this.heads)) {
      throw new FormatError(`The adapter in ${dir} acts on heads ${quote(heads)}, not on those of this one.`);
    }
    const { tensors, source } = await readAdapterTensors(dir);
    try {
      this.loadStateDict(tensors, source);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
  }
}

/**
 * Attaches the LoFiT adapter in `dir`.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadLofit(model: AnyModule, dir: string, options: AttachOptions = {}): Promise<LofitModel> {
  return loadInto(new LofitModel(model, await readConfig(dir), options), dir);
}

const FIELDS: Readonly<Record<string, keyof LofitConfig>> = {
  heads: 'heads',
  offset: 'offset',
  scale: 'scale',
  init_std: 'initStd',
  projections: 'projections',
  num_heads: 'numHeads',
};

async function readConfig(dir: string): Promise<CheckedLofitConfig> {
  const { json, source } = await readAdapterConfig(dir);
  return namingSource(source, () => checkLofitConfig(ownOptions<LofitConfig>('LOFIT', json, FIELDS, source)));
}

export const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

function* stored(path: string, heads: LofitHeads): Generator<[string, Tensor]> {
  for (const [name, parameter] of heads.namedParameters(`${path}.lofit.`)) yield [name, parameter.stored];
}

/** `std(activations theta) theta` with the unit vector `theta` along `difference` `[heads, headDim]`. */
function alongStd(difference: Tensor, activations: readonly Tensor[]): Tensor {
  const theta = divNoNan(difference, euclideanNorm(difference, -1, true));
  const along = sum(mul(concat([...activations], 0), theta), -1, true);
  return mul(sqrt(mean(square(sub(along, mean(along, 0))), 0)), theta);
}
