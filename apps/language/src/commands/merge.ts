import { loadAdapter } from '@ashlar/peft';
import { ConfigError, type FloatDtype } from '@ashlar/tensor';
import { Command, Option } from 'commander';
import { startBackend } from '../backend.ts';
import { BUNDLED_MODEL, loadLanguageModel, saveLanguageModel } from '../language-model.ts';
import { folderName } from './options.ts';

interface Options {
  model: string;
  adapter: string;
  out: string;
  dtype: FloatDtype;
}

export const mergeCommand: Command = new Command('merge')
  .description("write an adapter into the model's weights")
  .option('--model <folder or hub id>', 'the model that was adapted', BUNDLED_MODEL)
  .requiredOption('--adapter <folder>', 'an adapter in the format of Hugging Face PEFT')
  .requiredOption('--out <folder>', 'where the merged model goes, in the layout of Hugging Face', folderName)
  .addOption(new Option('--dtype <type>', 'type of the weights').choices(['F32', 'F16', 'BF16']).default('F16'))
  .action(async ({ model, adapter, out, dtype }: Options) => {
    await startBackend();
    const language = await loadLanguageModel(model);
    const names = new Set([...language.model.namedState()].map(([name]) => name));
    (await loadAdapter(language.model, adapter)).mergeAndUnload({ safe: true });
    const added = [...language.model.namedState()].map(([name]) => name).filter((name) => !names.has(name));
    if (added.length > 0) {
      throw new ConfigError(
        `Merged, this adapter needs ${added[0]} and ${added.length - 1} more parameters that the model's architecture does ` +
          'not have: no other program could read it. Keep the adapter beside the model.',
      );
    }
    await saveLanguageModel(language, out, { dtype });
    console.log(`Saved to ${out}.`);
  });
