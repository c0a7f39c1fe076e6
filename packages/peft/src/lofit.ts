import { Conv1D, Linear } from '@ashlar/nn';
import { adamw, linear, Optimizer } from '@ashlar/optim';
import {
  type AnyModule,
  add,
  Buffer,
  ConfigError,
  checkFinite,
  clone,
  concat,
  disposeMap,
  divNoNan,
  euclideanNorm,
  FormatError,
  type HookHandle,
  jit,
  keep,
  lossAndGrads,
  Module,
  matMul,
  mean,
  moduleState,
  mul,
  NumericsError,
  neg,
  Parameter,
  quote,
  Rng,
  reshape,
  type Scalar,
  sign,
  slice,
  softplus,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tensor2d,
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
} from './adapter-files.ts';
import { AdapterLayer, refuseTied } from './adapter-layer.ts';
import { isRank, refuse } from './check-options.ts';
import { freezeBase, thawBase } from './frozen-base.ts';
import type { AdapterDescription, AdapterHandle, AttachOptions, Method } from './method.ts';

/** An attention head: its layer among the model's attention layers, and its index among the query heads, from 0. */
export type Head = readonly [layer: number, head: number];

export interface LofitConfig {
  /** The heads that the adapter acts on. Default all. */
  heads?: readonly Head[];
  /** Whether offsets `v` train. Default true. */
  offset?: boolean;
  /** Whether scalings `A` train: stage 1. Default false. */
  scale?: boolean;
  /** Of the normal distribution that they start from. Default 1e-3. */
  initStd?: number;
  /**
   * Names (or ends of names) of the attention layers' output projections. Default: `o_proj` and `out_proj` beside a
   * `q_proj`, `c_proj` beside a `c_attn`.
   */
  projections?: readonly string[];
  /** Query heads of an attention layer. Default: what the layer or the model's config says. */
  numHeads?: number;
}

const DEFAULTS = { offset: true, scale: false, initStd: 1e-3 } as const;

export type CheckedLofitConfig = LofitConfig & Required<Pick<LofitConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkLofitConfig(config: LofitConfig): CheckedLofitConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedLofitConfig;
  const { heads, offset, scale, initStd, projections, numHeads } = full;
  if (heads !== undefined) checkHeads(heads);
  for (const [option, value] of Object.entries({ offset, scale })) {
    if (typeof value !== 'boolean') refuse(option, value, 'true or false');
  }
  if (!offset && !scale) throw new ConfigError('Neither offset nor scale is true: nothing would train.');
  if (!(Number.isFinite(initStd) && initStd >= 0)) refuse('initStd', initStd, 'a finite number of at least 0');
  if (projections !== undefined && !(Array.isArray(projections) && projections.every((n) => typeof n === 'string'))) {
    refuse('projections', projections, 'a list of names');
  }
  if (numHeads !== undefined && !isRank(numHeads)) refuse('numHeads', numHeads, 'a positive integer');
  return full;
}

function checkHeads(heads: unknown): void {
  const isIndex = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
  const isHead = (value: unknown): boolean => Array.isArray(value) && value.length === 2 && value.every(isIndex);
  if (!Array.isArray(heads) || heads.length === 0 || !heads.every(isHead)) {
    refuse('heads', heads, 'a list of [layer, head] that is not empty');
  }
  const names = (heads as Head[]).map(String);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new ConfigError(`heads has [${twice}] twice.`);
}

type Projection = Linear | Conv1D;

/** An attention layer seen from its output projection, whose input `[..., heads headDim]` are the heads' outputs. */
interface AttentionOutput {
  path: string;
  projection: AnyModule;
  heads: number;
}

/** The attention layers of a model, first to last. @throws ConfigError where there is none, or its heads are unknown. */
function attentionOutputs(model: AnyModule, { projections, numHeads }: LofitConfig): AttentionOutput[] {
  const config = (model as { config?: { num_attention_heads?: number; n_head?: number } }).config;
  const found: AttentionOutput[] = [];
  for (const [path, module] of model.namedModules()) {
    const children = new Map(module.namedChildren());
    for (const [name, projection] of children) {
      const full = path === '' ? name : `${path}.${name}`;
      const usual = children.has('q_proj') ? ['o_proj', 'out_proj'] : children.has('c_attn') ? ['c_proj'] : [];
      const wanted = projections?.some((entry) => full === entry || full.endsWith(`.${entry}`)) ?? usual.includes(name);
      if (!wanted) continue;
      const own = (module as { heads?: unknown }).heads;
      const heads = numHeads ?? (isRank(own) ? (own as number) : (config?.num_attention_heads ?? config?.n_head));
      if (heads === undefined) throw new ConfigError(`How many heads '${path}' has is unknown; set numHeads.`);
      found.push({ path: full, projection, heads });
    }
  }
  if (found.length === 0) {
    const looked = projections?.join(', ') ?? 'o_proj or out_proj beside q_proj, c_proj beside c_attn';
    throw new ConfigError(`The model has no attention output projection (${looked}); name them by 'projections'.`);
  }
  return found;
}

/** The width of a projection's input. */
function inputWidth({ path, projection }: AttentionOutput): number {
  if (projection instanceof Linear) return projection.inFeatures;
  if (projection instanceof Conv1D) return projection.weight.shape[0];
  const what = projection instanceof AdapterLayer ? 'carries another adapter' : 'is no linear layer';
  throw new ConfigError(
    `'${path}' ${what} (${projection.constructor.name}); LoFiT hooks plain projections: leave it out of the other ` +
      "method's targets by 'excludeModules'.",
  );
}

/**
 * Scalings and offsets of some heads of one attention layer, `[..., heads headDim]` to the same:
 * `z'_i = (1 + A_i) * z_i + v_i` for the heads `i` that it has, at every position.
 */
export class LofitHeads extends Module {
  readonly heads: readonly number[];
  /** `[heads.length, headDim]`, both. */
  readonly A?: Parameter;
  readonly v?: Parameter;
  /** `[numHeads, heads.length]`: a one where a row is the head of a column. */
  readonly placement: Buffer;

  constructor(heads: readonly number[], numHeads: number, headDim: number, config: CheckedLofitConfig, rng: Rng) {
    super();
    this.heads = heads;
    const shape: [number, number] = [heads.length, headDim];
    const parameter = (name: string): Parameter =>
      new Parameter({ shape, init: () => rng.fork(name).normal(shape, { std: config.initStd }) });
    if (config.scale) this.A = parameter('A');
    if (config.offset) this.v = parameter('v');
    const places = Array.from({ length: numHeads }, (_, row) => heads.map((head) => Number(head === row)));
    this.placement = new Buffer(tensor2d(places), { persistent: false });
  }

  /** `1 + A` over all heads, `[numHeads headDim]`, or undefined without scalings. */
  factors(): Tensor | undefined {
    return this.A && tidy(() => add(this.#overAll(this.A as Parameter), 1));
  }

  /** `v` over all heads, zero for those that are not here, `[numHeads headDim]`; or undefined without offsets. */
  offsets(): Tensor | undefined {
    return this.v && tidy(() => this.#overAll(this.v as Parameter));
  }

  #overAll(rows: Parameter): Tensor {
    return reshape(matMul(this.placement.stored, rows.value), [-1]);
  }

  override forward(z: Tensor): Tensor {
    const [factors, offsets] = [this.factors(), this.offsets()];
    const scaled = factors === undefined ? z : mul(z, factors);
    return offsets === undefined ? scaled : add(scaled, offsets);
  }
}

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
    const own = new Set(this.#own().values());
    return new Map([...this.model.trainableParameters()].filter(([, parameter]) => own.has(parameter)));
  }

  get trainableFraction(): number {
    const count = (parameters: Iterable<Parameter>): number => [...parameters].reduce((n, { size }) => n + size, 0);
    return count(this.parameters().values()) / count(this.model.parameters());
  }

  /** One line per layer with heads; `r` is their number. */
  describe(): AdapterDescription[] {
    return this.#layers.map(({ path, projection, heads }) => ({
      path,
      adapter: this.name,
      layer: projection.constructor.name,
      r: heads.heads.length,
      scaling: 1,
      parameters: heads.parameters().reduce((n, { size }) => n + size, 0),
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
  const handle = new LofitModel(model, await readConfig(dir), options);
  try {
    await handle.load(dir);
  } catch (error) {
    handle.unload();
    throw error;
  }
  return handle;
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

export interface HeadSelectionOptions<Batch> {
  /** What is minimised, a mean over the batch. */
  loss(batch: Batch): Tensor;
  /** As many as `steps`; each is disposed of by whoever makes it. */
  batches: Iterable<Batch>;
  steps: number;
  /** Heads to choose. Default a tenth of all. The paper uses about 3% for the offsets. */
  k?: number;
  /** Weight of `sum |A|`. Default 5e-4. */
  l1Lambda?: number;
  /** Falls linearly to zero. Default 5e-3. */
  learningRate?: number;
  initStd?: number;
  projections?: readonly string[];
  numHeads?: number;
  /** Default `new Rng(0)`. */
  rng?: Rng;
}

/**
 * Stage 1 of LoFiT: trains scalings of all heads, `loss + lambda sum |A|` by AdamW without decay, and chooses the `k` heads
 * whose scalings are longest. The scalings are thrown away and the model is left as it was. With few examples the choice
 * is noisy: compare seeds.
 * @returns the chosen heads, best first, and the score of every head of the model.
 * @throws ConfigError for options out of range; NumericsError if the loss is not finite.
 */
export function selectHeads<Batch extends Tensor | readonly Tensor[]>(
  model: AnyModule,
  options: HeadSelectionOptions<Batch>,
): { heads: Head[]; scores: { head: Head; score: number }[] } {
  const { loss, batches, steps, l1Lambda = 5e-4, learningRate = 5e-3, initStd, projections, numHeads, rng } = options;
  if (!isRank(steps)) refuse('steps', steps, 'a positive integer');
  if (!(Number.isFinite(l1Lambda) && l1Lambda >= 0)) refuse('l1Lambda', l1Lambda, 'a finite number of at least 0');
  const config = { scale: true, offset: false, initStd, projections, numHeads };
  const handle = new LofitModel(model, checkLofitConfig(config), { rng, name: 'selection' });
  const parameters = handle.parameters();
  const schedule = linear({ init: learningRate, end: 0, steps });
  const optimizer = new Optimizer(parameters, adamw({ learningRate: schedule, weightDecay: 0 }));
  const step = jit(
    (batch: Batch): Tensor => {
      const objective = (): Tensor => add(loss(batch), handle.l1Penalty(l1Lambda));
      const { loss: value, grads } = lossAndGrads(objective, parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return value;
    },
    { state: [moduleState(model), optimizer], name: 'selectHeads' },
  );
  try {
    const k = options.k ?? Math.max(1, Math.round(handle.heads.length / 10));
    if (!isRank(k) || k > handle.heads.length) refuse('k', k, `an integer from 1 to ${handle.heads.length}`);
    let done = 0;
    for (const batch of batches) {
      if (done === steps) break;
      const value = step(batch);
      const [last] = value.dataSync();
      value.dispose();
      done++;
      if (!Number.isFinite(last)) throw new NumericsError(`The loss of head selection is ${last} in step ${done}.`);
    }
    if (done < steps) throw new ConfigError(`batches ended after ${done}; steps is ${steps}.`);
    const scores = handle.scores();
    return {
      heads: topHeads(scores, k).map((i) => handle.heads[i]),
      scores: handle.heads.map((head, i) => ({ head, score: scores[i] })),
    };
  } finally {
    step.dispose();
    optimizer.dispose();
    handle.unload();
  }
}

/** The indices of the `k` largest scores, largest first; of equal ones the later first. */
export function topHeads(scores: readonly number[], k: number): number[] {
  return range(scores.length)
    .sort((a, b) => scores[b] - scores[a] || b - a)
    .slice(0, k);
}

/** `lambda sum |x|` with the gradient `lambda sign(x)`, `sign(0) = 0`. */
export function l1(x: Tensor, lambda: number): Scalar {
  return tidy(() => mul(sum(mul(x, stopGradient(sign(x)))), lambda) as Scalar);
}

/**
 * The loss of direct preference optimisation, the mean of
 * `-log sigmoid(beta [(log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))])`, from the summed
 * log-probabilities of whole answers, `[batch]` each; the reference is the frozen base.
 *
 * Source: Rafailov et al. 2023, arXiv 2305.18290; LoFiT trains with `beta` 0.5 for truthfulness.
 * @returns the loss, and the margin of the implicit rewards by example (the argument of the sigmoid).
 */
export function dpoLoss(
  policyChosen: Tensor,
  policyRejected: Tensor,
  referenceChosen: Tensor,
  referenceRejected: Tensor,
  beta = 0.5,
): { loss: Scalar; margin: Tensor } {
  if (!(beta > 0 && Number.isFinite(beta))) refuse('beta', beta, 'a finite number above 0');
  return tidy(() => {
    const chosen = sub(policyChosen, referenceChosen);
    const margin = mul(sub(chosen, sub(policyRejected, referenceRejected)), beta);
    return { loss: mean(softplus(neg(margin))) as Scalar, margin };
  });
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

/** The width of one head. */
function headWidth(output: AttentionOutput): number {
  const width = inputWidth(output);
  const [guest] = output.projection.namedChildren();
  if (guest !== undefined) {
    throw new ConfigError(`'${output.path}' carries another adapter (${guest[0]}); unload that first.`);
  }
  if (width % output.heads !== 0) {
    throw new ConfigError(`'${output.path}' takes ${width} numbers, which ${output.heads} heads do not divide.`);
  }
  return width / output.heads;
}

function* stored(path: string, heads: LofitHeads): Generator<[string, Tensor]> {
  for (const [name, parameter] of heads.namedParameters(`${path}.lofit.`)) yield [name, parameter.stored];
}

/** `std(activations theta) theta` with the unit vector `theta` along `difference` `[heads, headDim]`. */
function alongStd(difference: Tensor, activations: readonly Tensor[]): Tensor {
  const theta = divNoNan(difference, euclideanNorm(difference, -1, true));
  const along = sum(mul(concat([...activations], 0), theta), -1, true);
  return mul(sqrt(mean(square(sub(along, mean(along, 0))), 0)), theta);
}
