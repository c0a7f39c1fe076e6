export * from './bpe-trainer.ts';
export * from './text.ts';
export * from './token-batches.ts';
export * from './tokenizer.ts';
