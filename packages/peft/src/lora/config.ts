import { ConfigError } from '@ashlar/tensor';
import { checkPattern, checkTargets, isRank, refuse } from '../check-options.ts';
import type { TargetOptions } from '../match.ts';

/** How the adapter starts; see `initialize`. `pissa_niter_4` means 4 subspace iterations. */
export type LoraInit = boolean | 'gaussian' | 'pissa' | `pissa_niter_${number}` | 'olora' | 'orthogonal';

/** Options of LoRA under the names of Hugging Face `peft`, in camel case. */
export interface LoraConfig extends TargetOptions {
  /** Rank of the update. Default 8. */
  r?: number;
  /** The update is scaled by `loraAlpha / r` (by `loraAlpha / sqrt(r)` with `useRslora`). Default 8. */
  loraAlpha?: number;
  /** Probability of dropping an input of the adapter in training, in [0, 1). Default 0. */
  loraDropout?: number;
  /** Rank-stabilised scaling (Kalajdzievski 2023, arXiv 2312.03732). Default false. */
  useRslora?: boolean;
  /** Weight-decomposed adaptation (Liu et al. 2024, arXiv 2402.09353). Default false. */
  useDora?: boolean;
  /** A bias in `lora_B`. Default false. */
  loraBias?: boolean;
  /** Default true: A Kaiming-uniform, B zero. */
  initLoraWeights?: LoraInit;
  /** Which biases of the base train too: none, those of adapted layers, or all. Default 'none'. */
  bias?: 'none' | 'all' | 'lora_only';
  /** Ranks of modules whose name ends with the key (a regular expression); the first that matches counts. */
  rankPattern?: Readonly<Record<string, number>>;
  /** The same for `loraAlpha`. */
  alphaPattern?: Readonly<Record<string, number>>;
  /** Fields of an `adapter_config.json` that are unknown here: written again on `save`, without effect. */
  unknownFields?: Readonly<Record<string, unknown>>;
}

export type CheckedLoraConfig = LoraConfig &
  Required<
    Pick<
      LoraConfig,
      | 'r'
      | 'loraAlpha'
      | 'loraDropout'
      | 'useRslora'
      | 'useDora'
      | 'loraBias'
      | 'initLoraWeights'
      | 'bias'
      | 'rankPattern'
      | 'alphaPattern'
    >
  >;

const DEFAULTS = {
  r: 8,
  loraAlpha: 8,
  loraDropout: 0,
  useRslora: false,
  useDora: false,
  loraBias: false,
  initLoraWeights: true,
  bias: 'none',
  rankPattern: {},
  alphaPattern: {},
} as const;

/**
 * Fills in the defaults and checks every option.
 * @throws ConfigError naming the option, what it was and what it may be.
 */
export function checkLoraConfig(config: LoraConfig): CheckedLoraConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedLoraConfig;
  if (!isRank(full.r)) refuse('r', full.r, 'a positive integer');
  if (!Number.isFinite(full.loraAlpha)) refuse('loraAlpha', full.loraAlpha, 'a finite number');
  if (!(full.loraDropout >= 0 && full.loraDropout < 1)) refuse('loraDropout', full.loraDropout, 'in [0, 1)');
  for (const option of ['useRslora', 'useDora', 'loraBias'] as const) {
    if (typeof full[option] !== 'boolean') refuse(option, full[option], 'true or false');
  }
  if (!['none', 'all', 'lora_only'].includes(full.bias)) refuse('bias', full.bias, "'none', 'all' or 'lora_only'");
  const init = full.initLoraWeights;
  if (
    typeof init !== 'boolean' &&
    !(typeof init === 'string' && /^(gaussian|pissa|pissa_niter_[1-9]\d?|olora|orthogonal)$/.test(init))
  ) {
    refuse('initLoraWeights', init, "true, false, 'gaussian', 'pissa', 'pissa_niter_<1..99>', 'olora' or 'orthogonal'");
  }
  checkTargets(full);
  checkPattern('rankPattern', full.rankPattern, isRank, 'a positive integer');
  checkPattern('alphaPattern', full.alphaPattern, Number.isFinite, 'a finite number');
  if (full.loraBias && (full.useDora || typeof init === 'string')) {
    throw new ConfigError('loraBias goes neither with useDora nor with an initLoraWeights other than true or false.');
  }
  return full;
}
