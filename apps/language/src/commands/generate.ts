import { Rng } from '@ashlar/tensor';
import { Command } from 'commander';
import { startBackend } from '../backend.ts';
import { BUNDLED_MODEL, generateText } from '../language-model.ts';
import { nonNegative, openModel, positiveInteger, wholeNumber } from './options.ts';

interface Options {
  model: string;
  adapter?: string;
  prompt: string;
  maxNewTokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  seed: number;
}

export const generateCommand: Command = new Command('generate')
  .description('continue a text, token by token')
  .option('--model <folder or hub id>', 'the model', BUNDLED_MODEL)
  .option('--adapter <folder>', 'an adapter in the format of Hugging Face PEFT')
  .option('--prompt <text>', 'what the text begins with', '')
  .option('--max-new-tokens <n>', 'tokens to make at most', positiveInteger, 200)
  .option('--temperature <x>', '0 takes the likeliest token each time', nonNegative, 0.8)
  .option('--top-k <n>', 'draw from this many tokens only', positiveInteger)
  .option('--top-p <p>', 'draw from the likeliest tokens that make up this probability', nonNegative, 0.95)
  .option('--seed <n>', 'seed of the draws', wholeNumber, 0)
  .action(async ({ prompt, ...options }: Options) => {
    await startBackend();
    const language = await openModel(options);
    process.stdout.write(prompt);
    for await (const text of generateText(language, prompt, { ...options, rng: new Rng(options.seed) })) {
      process.stdout.write(text);
    }
    process.stdout.write('\n');
  });
