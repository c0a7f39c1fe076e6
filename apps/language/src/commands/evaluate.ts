import { Command } from 'commander';
import { evaluateText } from '../adapt.ts';
import { startBackend } from '../backend.ts';
import { BUNDLED_MODEL } from '../language-model.ts';
import { documents, openModel, positiveInteger } from './options.ts';

interface Options {
  model: string;
  adapter?: string;
  text: string;
  batchSize: number;
  sequenceLength?: number;
}

export const evaluateCommand: Command = new Command('evaluate')
  .description('measure the perplexity of a text')
  .option('--model <folder or hub id>', 'the model', BUNDLED_MODEL)
  .option('--adapter <folder>', 'an adapter in the format of Hugging Face PEFT')
  .requiredOption('--text <file or folder>', 'what to measure on')
  .option('--batch-size <n>', 'sequences at a time', positiveInteger, 8)
  .option('--sequence-length <n>', "tokens per sequence (default: the model's context, at most 256)", positiveInteger)
  .action(async (options: Options) => {
    await startBackend();
    const language = await openModel(options);
    const { loss, perplexity, tokens } = await evaluateText(language, await documents(options.text), options);
    console.log(`perplexity ${perplexity.toFixed(3)} (${loss.toFixed(4)} nats per token, ${tokens} tokens)`);
  });
