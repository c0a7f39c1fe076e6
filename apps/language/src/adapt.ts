import { evaluationBatches, packTokens, TokenBatches } from '@ashlar/data';
import { adamw, chain, clipByGlobalNorm, warmupCosine } from '@ashlar/optim';
import type { AdapterHandle } from '@ashlar/peft';
import { ConfigError, Rng, type Tensor } from '@ashlar/tensor';
import { crossEntropyObjective, evaluate, perplexity, type TrainEvent, train } from '@ashlar/train';
import type { Document } from './corpora.ts';
import { EveryNth } from './every-nth.ts';
import type { LanguageModel } from './language-model.ts';
import { method } from './methods.ts';

export interface AdaptOptions {
  /** Texts to learn. */
  train: readonly Document[];
  /** Texts to measure on. */
  heldOut: readonly Document[];
  /** A key of `METHODS`. Default `'lora'`. */
  method?: string;
  /** Default 8. */
  rank?: number;
  /** Default by method, see `METHODS`. */
  alpha?: number;
  /** Default `'all-linear'`. */
  targets?: string | readonly string[];
  /** Default 0. */
  dropout?: number;
  /** Default by method, see `METHODS`. */
  learningRate?: number;
  /** Default 200. */
  steps?: number;
  /** Default 8. */
  batchSize?: number;
  /** Tokens per sequence. Default the model's context, at most 256. */
  sequenceLength?: number;
  /** Steps between measurements on the held-out text. Default a fifth of `steps`. */
  evaluateEvery?: number;
  /** At most about this many held-out tokens are measured, evenly spread. Default all. */
  heldOutTokens?: number;
  /** Default 0. */
  seed?: number;
  /** Where checkpoints go; without it there are none. */
  checkpoints?: string;
  /** Continue from the newest checkpoint. Default false. */
  resume?: boolean;
  signal?: AbortSignal;
}

/** A model being adapted. */
export interface Adaptation {
  /** The adapter; undefined for full fine-tuning. */
  adapter: AdapterHandle | undefined;
  /** Going through them does the work, see `train` of @ashlar/train. */
  events: AsyncGenerator<TrainEvent, void, void>;
}

type Batch = { inputIds: Tensor; labels: Tensor };

const objective = crossEntropyObjective();

/**
 * Adapts a language model to new texts, in place: attaches the method's adapter and trains it.
 * @throws ConfigError for options out of range, or texts shorter than a batch.
 */
export function adapt({ model, tokenizer }: LanguageModel, options: AdaptOptions): Adaptation {
  const { steps = 200, batchSize = 8, seed = 0, rank = 8, targets = 'all-linear', dropout = 0 } = options;
  const { evaluateEvery = Math.max(1, Math.ceil(steps / 5)), checkpoints, resume, signal } = options;
  const sequenceLength = checkedLength(options.sequenceLength, model.contextLength);
  const { attach, gradients, learningRate: usual } = method(options.method ?? 'lora');
  const { learningRate = usual, alpha } = options;
  const rng = new Rng(seed);
  const eos = tokenizer.eosTokenId !== undefined;
  const tokens = packTokens(options.train, tokenizer, { eos });
  const batchesFor = (purpose: string): TokenBatches =>
    new TokenBatches(tokens, { batchSize, sequenceLength, rng: rng.fork(purpose) });
  const batches = batchesFor('batches');
  const heldOut = heldOutBatches({ tokenizer }, options.heldOut, { ...options, batchSize, sequenceLength });
  const adapter = attach(model, {
    ...{ rank, alpha, targets, dropout, steps },
    batches: () => endless(batchesFor('selection')),
    rng: rng.fork('adapter'),
  });
  const schedule = warmupCosine({
    peak: learningRate,
    warmupSteps: Math.max(1, Math.round(steps * 0.05)),
    totalSteps: steps,
    end: learningRate * 0.1,
  });
  const events = train<Batch>({
    model,
    forward: ({ inputIds, labels }) => ({ logits: model.apply(inputIds), labels }),
    objective,
    gradients,
    batches,
    optimizer: chain(clipByGlobalNorm(1), adamw({ learningRate: schedule, weightDecay: 0 })),
    steps,
    evaluate: { batches: heldOut, everySteps: evaluateEvery, atStart: true },
    ...(checkpoints !== undefined && {
      checkpoint: { folder: checkpoints, everySteps: Math.max(1, Math.ceil(steps / 5)) },
    }),
    resume,
    config: { method: options.method ?? 'lora', rank, seed, steps, batchSize, sequenceLength, learningRate },
    signal,
  });
  return { adapter, events };
}

/** Mean loss in nats per token, and perplexity, of a model on texts. */
export async function evaluateText(
  { model, tokenizer }: Pick<LanguageModel, 'model' | 'tokenizer'>,
  documents: readonly Document[],
  options: { batchSize?: number; sequenceLength?: number; heldOutTokens?: number } = {},
): Promise<{ loss: number; perplexity: number; tokens: number }> {
  const { batchSize = 8 } = options;
  const sequenceLength = checkedLength(options.sequenceLength, model.contextLength);
  const { loss, weight } = await evaluate<Batch>({
    model,
    forward: ({ inputIds, labels }) => ({ logits: model.apply(inputIds), labels }),
    objective,
    batches: heldOutBatches({ tokenizer }, documents, { ...options, batchSize, sequenceLength }),
  });
  return { loss, perplexity: perplexity(loss), tokens: weight };
}

/** Held-out batches of at most about `heldOutTokens` tokens, evenly spread. */
export function heldOutBatches(
  { tokenizer }: Pick<LanguageModel, 'tokenizer'>,
  documents: readonly Document[],
  options: { batchSize: number; sequenceLength: number; heldOutTokens?: number },
): Iterable<Batch> {
  const { batchSize, sequenceLength, heldOutTokens = Infinity } = options;
  const tokens = packTokens(documents, tokenizer, { eos: tokenizer.eosTokenId !== undefined });
  const every = Math.max(1, Math.floor(tokens.length / heldOutTokens));
  return new EveryNth(evaluationBatches(tokens, { batchSize, sequenceLength }), every);
}

/** The batches of all epochs, each disposed of as the next is taken. */
function* endless(batches: TokenBatches): Generator<[Tensor, Tensor], never> {
  for (;;) {
    for (const { inputIds, labels } of batches) {
      try {
        yield [inputIds, labels];
      } finally {
        inputIds.dispose();
        labels.dispose();
      }
    }
  }
}

function checkedLength(sequenceLength: number | undefined, contextLength: number): number {
  const length = sequenceLength ?? Math.min(256, contextLength);
  if (!Number.isInteger(length) || length < 2 || length > contextLength) {
    throw new ConfigError(
      `sequenceLength is ${length}; it must be an integer from 2 to the context, ${contextLength}.`,
    );
  }
  return length;
}
