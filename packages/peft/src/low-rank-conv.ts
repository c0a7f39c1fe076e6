import { Conv2d, EqualizedLinear, kaimingUniform_, Linear, SynthesisLayer, ToRGBLayer } from '@ashlar/nn';
import {
  type AnyModule,
  add,
  clone,
  Module,
  matMul,
  mul,
  Parameter,
  Rng,
  reshape,
  type Tensor,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { namingSource, ownConfig, ownOptions, readAdapterConfig, TARGET_FIELDS } from './adapter-files.ts';
import { checkTargets, isRank, refuse } from './check-options.ts';
import type { TargetOptions } from './match.ts';
import type { AttachOptions, Method } from './method.ts';
import { type AdapterParametrization, loadInto, ParametrizedModel } from './parametrized-model.ts';
import { targetPaths, wholeParameters, withTargets } from './targets.ts';

export interface LowRankConvConfig extends TargetOptions {
  /** A kernel of `k x k` gets an update of rank `r k`. Default 1. */
  r?: number;
  /** The update is scaled by `loraAlpha / r`. Default 1. */
  loraAlpha?: number;
  /** Whether the biases and the noise strengths of the adapted layers train too. Default true. */
  trainBiases?: boolean;
}

const DEFAULTS = { r: 1, loraAlpha: 1, trainBiases: true } as const;

export type CheckedLowRankConvConfig = LowRankConvConfig & Required<Pick<LowRankConvConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkLowRankConvConfig(config: LowRankConvConfig): CheckedLowRankConvConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedLowRankConvConfig;
  if (!isRank(full.r)) refuse('r', full.r, 'a positive integer');
  if (!Number.isFinite(full.loraAlpha)) refuse('loraAlpha', full.loraAlpha, 'a finite number');
  if (typeof full.trainBiases !== 'boolean') refuse('trainBiases', full.trainBiases, 'true or false');
  checkTargets(full);
  return full;
}

/** What it sits on: layers that use their weight in ways of their own. */
type LowRankBase = Linear | EqualizedLinear | Conv2d | SynthesisLayer | ToRGBLayer;

const isAdaptable = (module: AnyModule): module is LowRankBase & AnyModule =>
  [Linear, EqualizedLinear, Conv2d, SynthesisLayer, ToRGBLayer].some((kind) => module instanceof kind);

/**
 * The low-rank update of one weight, `[out, in]` or `[out, in, k, k]`: `W + s reshape(B A)`, with `A` `[r k, in k k]` and `B`
 * `[out, r k]`.
 */
export class LowRankUpdate extends Module<[Tensor], Tensor> implements AdapterParametrization {
  /** Kaiming-uniform with a = sqrt(5). */
  readonly lora_A: Parameter;
  /** From zero. */
  readonly lora_B: Parameter;
  readonly scaling: number;
  enabled = true;

  /** @param scaling `s`. */
  constructor(shape: readonly number[], r: number, scaling: number, rng: Rng) {
    super();
    const [out, , k = 1] = shape;
    const rank = r * k;
    const shapeA = [rank, shape.slice(1).reduce((n, size) => n * size, 1)];
    this.lora_A = new Parameter({ shape: shapeA, init: () => kaimingUniform_({ a: Math.sqrt(5) })(shapeA, rng) });
    this.lora_B = new Parameter(zeros([out, rank]));
    this.scaling = scaling;
  }

  override signature(): string {
    return `${super.signature()}${this.enabled ? '' : ' off'}`;
  }

  /** `s reshape(B A)`, `[out, in]` or `[out, in, k, k]`. */
  delta(shape: readonly number[]): Tensor {
    return tidy(() => reshape(mul(matMul(this.lora_B.value, this.lora_A.value), this.scaling), [...shape]));
  }

  parametrize(weight: Tensor): Tensor {
    return this.enabled ? add(weight, this.delta(weight.shape)) : clone(weight);
  }

  override forward(weight: Tensor): Tensor {
    return this.parametrize(weight);
  }
}

/**
 * Low-rank updates of convolutions and style layers, added to the weight before the layer uses it, so that StyleGAN2's
 * modulation and demodulation act on the update too: `W' = W + (alpha / r) reshape(B A)`, of rank `r k` for kernels of `k x k`.
 * On a layer with an equalized learning rate its gain multiplies `W` alone: `y = x (g W)^T + (alpha / r) x A^T B^T`. The
 * model is unchanged at the start. Without `targetModules` all `Conv2d`, `Linear`, `EqualizedLinear`, `SynthesisLayer` and
 * `ToRGBLayer` of the model are adapted. On a plain `Conv2d` it equals LoRA of rank `r k` and alpha `alpha k`.
 *
 * Source: Qi et al. 2023, My3DGen, arXiv 2307.05468; github.com/luchaoqi/my3dgen.
 * @throws ConfigError for options out of range, if no module matches, or if a weight is tied.
 */
export function lowRankConv(config: LowRankConvConfig = {}): Method<LowRankConvModel> {
  const checked = checkLowRankConvConfig(config);
  return { attach: (model, options) => new LowRankConvModel(model, checked, options) };
}

/** The low-rank updates of a model. While they are attached the base is frozen; `unload` gives it back as it was. */
export class LowRankConvModel extends ParametrizedModel<LowRankUpdate> {
  readonly config: CheckedLowRankConvConfig;

  constructor(model: AnyModule, config: LowRankConvConfig, options: AttachOptions = {}) {
    const checked = checkLowRankConvConfig(config);
    const { r, loraAlpha, trainBiases } = checked;
    const { name = 'default', rng = new Rng(0) } = options;
    const all = [...model.namedModules()].filter(([, module]) => isAdaptable(module)).map(([path]) => path);
    const targets = withTargets(model, { targetModules: all, ...checked });
    const paths = targetPaths(model, targets, isAdaptable);
    const whole = wholeParameters(model, targets, paths);
    for (const path of trainBiases ? paths : []) {
      const base = model.getSubmodule(path) as LowRankBase;
      for (const [name, member] of Object.entries(base)) {
        if (member instanceof Parameter && member !== base.weight) whole.set(`${path}.${name}`, member);
      }
    }
    const make = (path: string, base: AnyModule & { weight: Parameter }): LowRankUpdate => {
      const gain = base instanceof EqualizedLinear ? base.weightGain : 1;
      return new LowRankUpdate(base.weight.shape, r, loraAlpha / r / gain, rng.fork(name).fork(path));
    };
    super(model, name, paths, make, whole);
    this.config = { ...checked, targetModules: paths };
  }

  protected override describeLayer({ lora_A }: LowRankUpdate): { r: number; scaling: number } {
    return { r: lora_A.shape[0], scaling: this.config.loraAlpha / this.config.r };
  }

  protected override toJson(baseModel?: string): Record<string, unknown> {
    return ownConfig('LOWRANKCONV', this.config, FIELDS, baseModel);
  }

  protected override readConfig(dir: string): Promise<CheckedLowRankConvConfig> {
    return readConfig(dir);
  }
}

/**
 * Attaches the adapter in `dir`.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadLowRankConv(
  model: AnyModule,
  dir: string,
  options: AttachOptions = {},
): Promise<LowRankConvModel> {
  return loadInto(new LowRankConvModel(model, await readConfig(dir), options), dir);
}

const FIELDS: Readonly<Record<string, keyof LowRankConvConfig>> = {
  ...TARGET_FIELDS,
  r: 'r',
  lora_alpha: 'loraAlpha',
  train_biases: 'trainBiases',
};

async function readConfig(dir: string): Promise<CheckedLowRankConvConfig> {
  const { json, source } = await readAdapterConfig(dir);
  return namingSource(source, () =>
    checkLowRankConvConfig(ownOptions<LowRankConvConfig>('LOWRANKCONV', json, FIELDS, source)),
  );
}
