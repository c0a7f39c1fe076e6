import { join } from 'node:path';
import { Rng, writeFileAtomic } from '@ashlar/tensor';
import { jsonl, progress } from '@ashlar/train';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import type { Document } from '../corpora.ts';
import { sampleText } from '../language-model.ts';
import { pretrain } from '../pretrain.ts';
import { folderName, nonNegative, positiveInteger, splitTexts, wholeNumber } from './options.ts';

interface Options {
  text: string[];
  out: string;
  vocabSize: number;
  hiddenSize: number;
  layers: number;
  contextLength: number;
  batchSize: number;
  steps: number;
  learningRate: number;
  seed: number;
  resume?: boolean;
}

export const pretrainCommand: Command = new Command('pretrain')
  .description('train a small Llama and its tokenizer from nothing')
  .option(
    '--text <path...>',
    "files or folders to learn, or 'moby-dick' and 'king-james'; the last tenth of each is held out",
    ['moby-dick', 'king-james'],
  )
  .requiredOption('--out <folder>', 'where the model goes, in the layout of Hugging Face', folderName)
  .option('--vocab-size <n>', 'tokens in the vocabulary', positiveInteger, 2048)
  .option('--hidden-size <n>', 'width, a multiple of 128', positiveInteger, 256)
  .option('--layers <n>', 'blocks', positiveInteger, 4)
  .option('--context-length <n>', 'tokens of context', positiveInteger, 256)
  .option('--batch-size <n>', 'sequences per step', positiveInteger, 16)
  .option('--steps <n>', 'training steps', positiveInteger, 1000)
  .option('--learning-rate <x>', 'peak learning rate', nonNegative, 2e-3)
  .option('--seed <n>', 'seed of everything random', wholeNumber, 0)
  .option('--resume', 'continue a run that was stopped')
  .action(async (options: Options) => {
    await startBackend();
    const texts: { train: Document[]; heldOut: Document[] } = { train: [], heldOut: [] };
    for (const text of options.text) {
      const { train, heldOut } = await splitTexts(text);
      texts.train.push(...train);
      texts.heldOut.push(...heldOut);
    }
    const { language, events, save } = pretrain({ ...options, ...texts });
    const log: { step: number; loss: number; perplexity?: number }[] = [];
    let seconds = 0;
    for await (const event of progress(jsonl(events, join(options.out, 'log.jsonl')), { everySeconds: 20 })) {
      if (event.type === 'evaluation') log.push({ step: event.step, loss: event.loss, perplexity: event.perplexity });
      if (event.type === 'end') seconds = event.seconds;
    }
    await save();
    language.model.eval();
    const prompt = 'The captain';
    const sample = await sampleText(language, prompt, {
      maxNewTokens: 120,
      temperature: 0.8,
      topP: 0.95,
      rng: new Rng(options.seed).fork('sample'),
    });
    const record = { settings: options, seconds: Math.round(seconds), heldOut: log, prompt, sample };
    await writeFileAtomic(join(options.out, 'training.json'), `${JSON.stringify(record, null, 2)}\n`);
    console.log(`\n${prompt}${sample}\n\nSaved to ${options.out}.`);
  });
