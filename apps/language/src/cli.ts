#!/usr/bin/env node
import { AshlarError } from '@ashlar/tensor';
import { Command } from 'commander';
import { adaptCommand } from './commands/adapt.ts';
import { demoCommand } from './commands/demo.ts';
import { evaluateCommand } from './commands/evaluate.ts';
import { generateCommand } from './commands/generate.ts';
import { inspectCommand } from './commands/inspect.ts';
import { lengthsCommand } from './commands/lengths.ts';
import { mergeCommand } from './commands/merge.ts';
import { pretrainCommand } from './commands/pretrain.ts';

const program = new Command('ashlar-language')
  .description('Adapt a language model to your own text, and use it.')
  .showHelpAfterError('(--help shows the options)');
const commands = [
  adaptCommand,
  generateCommand,
  evaluateCommand,
  mergeCommand,
  pretrainCommand,
  inspectCommand,
  lengthsCommand,
  demoCommand,
];
for (const command of commands) {
  program.addCommand(command.showHelpAfterError('(--help shows the options)'));
}

try {
  await program.parseAsync();
} catch (error) {
  // Errors that Ashlar throws on purpose are for the user; others are bugs and keep their stack.
  if (!(error instanceof AshlarError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}
