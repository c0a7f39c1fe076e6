import { ConfigError } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { trainBpe } from './bpe-trainer.ts';
import { packTokens } from './pack-tokens.ts';
import { Tokenizer } from './tokenizer.ts';

const json = trainBpe(['one two three'], { vocabSize: 300, minFrequency: 1, specialTokens: ['<s>', '</s>'] });
const tokenizer = new Tokenizer(json);
const texts = ['one', 'two '.repeat(3000), '', 'three'];

describe('packTokens', () => {
  it('puts the end-of-text token after each document', () => {
    const tokens = packTokens(texts, tokenizer);
    expect([...tokens]).toEqual(texts.flatMap((text) => [...tokenizer.encode(text), 1]));
    expect(tokens).toBeInstanceOf(Uint16Array);
    expect(tokens.buffer.byteLength).toBe(2 * tokens.length);
  });

  it('puts what it is asked to around documents', () => {
    const one = [...tokenizer.encode('one')];
    expect([...packTokens([{ name: 'a', text: 'one' }], tokenizer, { eos: false })]).toEqual(one);
    expect([...packTokens(['one'], tokenizer, { bos: true })]).toEqual([0, ...one, 1]);
  });

  it('takes documents as they come', async () => {
    async function* oneByOne(): AsyncGenerator<string> {
      yield* texts;
    }
    expect(await packTokens(oneByOne(), tokenizer)).toEqual(packTokens(texts, tokenizer));
  });

  it('takes four bytes for each token of a large vocabulary', () => {
    const large = new Tokenizer({ ...json, added_tokens: [...json.added_tokens, { id: 65536, content: '<|big|>' }] });
    expect([...packTokens(['<|big|>'], large, { eos: false })]).toEqual([65536]);
    expect(packTokens(['one'], large)).toBeInstanceOf(Int32Array);
  });

  it('gives nothing for nothing', () => {
    expect(packTokens([], tokenizer)).toHaveLength(0);
  });

  it('needs the tokens that it is to add', () => {
    const plain = new Tokenizer({ ...json, added_tokens: [] });
    expect(() => packTokens(['one'], plain)).toThrow(ConfigError);
    expect(() => packTokens(['one'], plain)).toThrow(
      'has no eos token. Name one in tokenizer_config.json as eos_token.',
    );
    expect(() => packTokens(['one'], plain, { eos: false, bos: true })).toThrow('has no bos token');
  });
});
