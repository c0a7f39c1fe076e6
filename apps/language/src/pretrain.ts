import { join } from 'node:path';
import { packTokens, TokenBatches, Tokenizer, trainBpe } from '@ashlar/data';
import { createModel, saveModel } from '@ashlar/models';
import { adamw, chain, clipByGlobalNorm, warmupCosine } from '@ashlar/optim';
import { Rng, type Tensor, writeFileAtomic } from '@ashlar/tensor';
import { crossEntropyObjective, type TrainEvent, train } from '@ashlar/train';
import { heldOutBatches } from './adapt.ts';
import type { Document } from './corpora.ts';
import type { LanguageModel } from './language-model.ts';

export interface PretrainOptions {
  train: readonly Document[];
  heldOut: readonly Document[];
  /** Where the model goes, as a Hugging Face folder; checkpoints go to its `checkpoints`. */
  out: string;
  /** Default 2048. */
  vocabSize?: number;
  /** Width. Default 256. */
  hiddenSize?: number;
  /** Default 4. */
  layers?: number;
  /** Tokens of context. Default 256. */
  contextLength?: number;
  /** Default 16. */
  batchSize?: number;
  /** Default 1000. */
  steps?: number;
  /** Default 2e-3. */
  learningRate?: number;
  /** Default 0. */
  seed?: number;
  resume?: boolean;
  signal?: AbortSignal;
}

type Batch = { inputIds: Tensor; labels: Tensor };

const END_OF_TEXT = '<|endoftext|>';

/** A small Llama and its tokenizer, trained from nothing. Going through `events` does the work; `save` writes the folder. */
export function pretrain(options: PretrainOptions): {
  language: Pick<LanguageModel, 'model' | 'tokenizer'>;
  events: AsyncGenerator<TrainEvent, void, void>;
  save(): Promise<void>;
} {
  const { out, vocabSize = 2048, hiddenSize = 256, layers = 4, contextLength = 256, batchSize = 16 } = options;
  const { steps = 1000, learningRate = 2e-3, seed = 0, resume, signal } = options;
  const tokenizerJson = trainBpe(
    options.train.map(({ text }) => text),
    { vocabSize, specialTokens: [END_OF_TEXT] },
  );
  const tokenizerConfig = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: END_OF_TEXT,
    eos_token: END_OF_TEXT,
    model_max_length: contextLength,
    clean_up_tokenization_spaces: false,
  };
  const tokenizer = new Tokenizer(tokenizerJson, tokenizerConfig);
  const rng = new Rng(seed);
  const model = createModel(
    {
      model_type: 'llama',
      vocab_size: vocabSize,
      hidden_size: hiddenSize,
      intermediate_size: Math.round((hiddenSize * 8) / 3 / 16) * 16,
      num_hidden_layers: layers,
      num_attention_heads: hiddenSize / 64,
      num_key_value_heads: hiddenSize / 128,
      max_position_embeddings: contextLength,
      tie_word_embeddings: true,
    },
    { rng: rng.fork('model') },
  );
  const events = train<Batch>({
    model,
    forward: ({ inputIds, labels }) => ({ logits: model.apply(inputIds), labels }),
    objective: crossEntropyObjective(),
    batches: new TokenBatches(packTokens(options.train, tokenizer), {
      batchSize,
      sequenceLength: contextLength,
      rng: rng.fork('batches'),
    }),
    optimizer: chain(
      clipByGlobalNorm(1),
      adamw({
        learningRate: warmupCosine({
          peak: learningRate,
          warmupSteps: Math.ceil(Math.min(50, steps / 10)),
          totalSteps: steps,
          end: learningRate / 20,
        }),
        b2: 0.98,
        weightDecay: 0.1,
        mask: (_, { rank }) => rank > 1,
      }),
    ),
    steps,
    evaluate: {
      batches: heldOutBatches({ tokenizer }, options.heldOut, { batchSize, sequenceLength: contextLength }),
      everySteps: 100,
      atStart: true,
    },
    checkpoint: { folder: join(out, 'checkpoints'), everySteps: 50 },
    resume,
    config: { vocabSize, hiddenSize, layers, contextLength, batchSize, steps, learningRate, seed },
    signal,
  });
  return {
    language: { model, tokenizer },
    events,
    save: async () => {
      await saveModel(model, out, { dtype: 'F16' });
      const json = (name: string, value: unknown): Promise<void> =>
        writeFileAtomic(join(out, name), `${JSON.stringify(value, null, 2)}\n`);
      await json('tokenizer.json', tokenizerJson);
      await json('tokenizer_config.json', tokenizerConfig);
      const end = tokenizer.eosTokenId;
      await json('generation_config.json', { bos_token_id: end, eos_token_id: end, do_sample: true });
    },
  };
}
