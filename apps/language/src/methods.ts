import type { CausalLM } from '@ashlar/models';
import {
  type AdapterHandle,
  attach,
  gladGradients,
  type LoraConfig,
  lofit,
  lora,
  ramt,
  sara,
  selectHeads,
  svfit,
} from '@ashlar/peft';
import { ConfigError, closestNames, crossEntropy, type Rng, type Tensor } from '@ashlar/tensor';
import type { GradientFunction } from '@ashlar/train';

export interface MethodOptions {
  /** Rank of the update. */
  rank: number;
  /** Default `2 * rank`; for PiSSA `rank`. */
  alpha?: number;
  /** Names of the modules to adapt, as `targetModules` of peft. */
  targets: string | readonly string[];
  /** Dropout on the adapter's input. */
  dropout: number;
  /** Batches to learn from, without end, for a method that first looks where to adapt; each is disposed of as the next is taken. */
  batches(): Iterable<readonly [inputIds: Tensor, labels: Tensor]>;
  /** Training steps. */
  steps: number;
  rng: Rng;
}

/** A way to adapt a model. */
export interface Method {
  description: string;
  /** The learning rate that suits it. */
  learningRate: number;
  /** Freezes and extends the model; without an adapter everything trains. */
  attach(model: CausalLM, options: MethodOptions): AdapterHandle | undefined;
  /** What differentiates, where it is not `lossAndGrads`. */
  gradients?: GradientFunction;
}

const withLora =
  (config: LoraConfig, alphaFactor = 2) =>
  (model: CausalLM, { rank, alpha = alphaFactor * rank, targets, dropout, rng }: MethodOptions): AdapterHandle =>
    attach(model, lora({ r: rank, loraAlpha: alpha, targetModules: targets, loraDropout: dropout, ...config }), {
      rng,
    });

/** @throws ConfigError for options of LoRA that a method does not have. */
function withoutLoraOptions(method: string, options: MethodOptions): void {
  const { alpha } = options;
  if (alpha !== undefined) throw new ConfigError(`alpha is ${alpha}; method '${method}' has no such scaling.`);
  withoutDropout(method, options);
}

function withoutDropout(method: string, { dropout }: MethodOptions): void {
  if (dropout > 0) throw new ConfigError(`dropout is ${dropout}; method '${method}' has none.`);
}

/** The methods of `adapt --method`, by name. */
export const METHODS: Readonly<Record<string, Method>> = {
  lora: {
    description: 'low-rank updates, mergeable (Hu et al. 2021)',
    learningRate: 2e-3,
    attach: withLora({}),
  },
  rslora: {
    description: 'LoRA scaled by alpha / sqrt(rank), for large ranks (Kalajdzievski 2023)',
    learningRate: 2e-3,
    attach: withLora({ useRslora: true }),
  },
  dora: {
    description: 'LoRA with a trained magnitude per output (Liu et al. 2024)',
    learningRate: 2e-3,
    attach: withLora({ useDora: true }),
  },
  pissa: {
    description: 'LoRA that starts from the principal components of the weights (Meng et al. 2024)',
    learningRate: 1e-3,
    attach: withLora({ initLoraWeights: 'pissa' }, 1),
  },
  glad: {
    description:
      'LoRA steered by the gradient a step uphill, towards flat minima; steps take twice as long (Peng et al. 2025)',
    learningRate: 2e-3,
    attach(model, options) {
      withoutDropout('glad', options);
      return withLora({})(model, options);
    },
    gradients: (loss, parameters) => gladGradients(loss, parameters),
  },
  svfit: {
    description: 'the leading singular values of the weights train: a handful of numbers (Sun et al. 2024)',
    learningRate: 2e-2,
    attach: (model, options) => {
      withoutLoraOptions('svfit', options);
      return attach(model, svfit({ r: options.rank, targetModules: options.targets }));
    },
  },
  lofit: {
    description: 'offsets on the attention heads that matter most, as many as --rank (Yin et al. 2024)',
    learningRate: 1e-2,
    attach: (model, options) => {
      withoutLoraOptions('lofit', options);
      const { rank, batches, steps, rng } = options;
      const loss = ([inputIds, labels]: readonly [Tensor, Tensor]): Tensor =>
        crossEntropy(model.apply(inputIds), labels);
      const { heads } = selectHeads(model, { loss, batches: batches(), steps, k: rank, rng: rng.fork('selection') });
      return attach(model, lofit({ heads }), { rng });
    },
  },
  ramt: {
    description: 'a bit for each weight: which take part (Zheng et al. 2023, without its gradient dropout)',
    learningRate: 5e-4,
    attach: (model, options) => {
      withoutLoraOptions('ramt', options);
      return attach(model, ramt({ targetModules: options.targets }));
    },
  },
  sara: {
    description: 'the smallest weights train, as many as LoRA of --rank has numbers (SaRA, 2024)',
    learningRate: 1e-3,
    attach: (model, options) => {
      withoutLoraOptions('sara', options);
      const { rank, targets } = options;
      const budget = attach(model, lora({ r: rank, targetModules: targets }));
      const count = [...budget.parameters().values()].reduce((total, { size }) => total + size, 0);
      const include = [...budget.layers.keys()];
      budget.unload();
      return attach(model, sara({ count, include, lambdaRank: 0 }));
    },
  },
  full: {
    description: 'full fine-tuning: every weight trains',
    learningRate: 5e-4,
    attach: (model) => {
      model.unfreeze();
      return undefined;
    },
  },
};

/** @throws ConfigError naming the methods there are. */
export function method(name: string): Method {
  if (Object.hasOwn(METHODS, name)) return METHODS[name];
  const names = Object.keys(METHODS);
  throw new ConfigError(
    `method is '${name}'; it must be one of ${names.join(', ')} (closest: ${closestNames(name, names, 1)}).`,
  );
}
