import { readFileSync } from 'node:fs';
import { ConfigError } from '@ashlar/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { trainBpe } from './bpe-trainer.ts';
import { BYTE_CHARS, PRE_TOKEN, toByteChars } from './byte-level.ts';
import { Tokenizer } from './tokenizer.ts';

const fixture = JSON.parse(readFileSync(new URL('../test/interop/fixtures/bpe.json', import.meta.url), 'utf8'));

/** Counts all pairs anew for every merge. */
function bruteForce(texts: readonly string[], vocabSize: number, minFrequency: number): [string, string][] {
  let words = texts.flatMap((text) => text.match(PRE_TOKEN) ?? []).map((word) => [...toByteChars(word)]);
  const tokens = ['<|endoftext|>', ...BYTE_CHARS.toSorted()];
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const pair = `${word[i - 1]} ${word[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const rank = (pair: string): number[] => pair.split(' ').map((token) => tokens.indexOf(token));
    const [best] = [...counts].sort(([p, m], [q, n]) => {
      const [a, b] = [rank(p), rank(q)];
      return n - m || a[0] - b[0] || a[1] - b[1];
    });
    if (best === undefined || best[1] < minFrequency) break;
    const [left, right] = best[0].split(' ');
    merges.push([left, right]);
    if (!tokens.includes(left + right)) tokens.push(left + right);
    words = words.map((word) => {
      const merged: string[] = [];
      for (let i = 0; i < word.length; i++) {
        const here = word[i] === left && word[i + 1] === right;
        merged.push(here ? left + right : word[i]);
        if (here) i++;
      }
      return merged;
    });
  }
  return merges;
}

const fewLetters = fc
  .array(fc.constantFrom('a', 'a', 'b', 'c', ' ', 'é', '\n'), { maxLength: 60 })
  .map((letters) => letters.join(''));

describe('trainBpe', () => {
  it.each(['prose', 'syllables'])("gives what Python's tokenizers gives: %s", (name) => {
    const { texts, options, tokenizer, encodings } = fixture[name];
    const json = trainBpe(texts, options);
    expect(json).toEqual(tokenizer);
    for (const { text, ids } of encodings) expect([...new Tokenizer(json).encode(text)]).toEqual(ids);
  });

  it('gives what counting anew for every merge gives', () => {
    fc.assert(
      fc.property(
        fc.array(fewLetters, { minLength: 1, maxLength: 5 }).map((texts) => [...texts, 'a']),
        fc.integer({ min: 257, max: 330 }),
        fc.integer({ min: 1, max: 4 }),
        (texts, vocabSize, minFrequency) => {
          const { merges } = trainBpe(texts, { vocabSize, minFrequency }).model;
          expect(merges).toEqual(bruteForce(texts, vocabSize, minFrequency));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('does not depend on the order of the texts, nor on how they come', async () => {
    const { texts, options } = fixture.syllables;
    const json = trainBpe(texts, options);
    expect(trainBpe([...texts].reverse(), options)).toEqual(json);
    async function* oneByOne(): AsyncGenerator<string> {
      yield* texts;
    }
    expect(await trainBpe(oneByOne(), options)).toEqual(json);
  });

  it('holds a token that JavaScript objects treat specially', () => {
    const json = trainBpe(['text'], { vocabSize: 257, specialTokens: ['__proto__'] });
    expect(Object.entries(json.model.vocab)).toContainEqual(['__proto__', 0]);
    expect(new Tokenizer(json).tokenToId('__proto__')).toBe(0);
  });

  it('stops where the text runs out of pairs', () => {
    const json = trainBpe(['ab ab'], { vocabSize: 1000, minFrequency: 2 });
    expect(json.model.merges).toEqual([['a', 'b']]);
    expect(new Tokenizer(json).vocabSize).toBe(258);
  });

  it('copes with a long word', () => {
    const json = trainBpe(['ab'.repeat(50_000)], { vocabSize: 270 });
    expect(json.model.merges.slice(0, 2)).toEqual([
      ['a', 'b'],
      ['ab', 'ab'],
    ]);
  });

  it.each([
    [{ vocabSize: 256 }, 'vocabSize is 256; it may be a whole number from 257'],
    [{ vocabSize: 300.5 }, 'vocabSize is 300.5'],
    [{ vocabSize: 2 ** 25 }, 'to 2^24'],
    [{ minFrequency: 0 }, 'minFrequency is 0; it may be a whole number >= 1'],
    [{ specialTokens: [''] }, 'specialTokens[0] is ""'],
    [{ specialTokens: ['<s>', '<s>'] }, 'specialTokens[1] is "<s>"'],
    [{ specialTokens: ['Ġ'] }, 'specialTokens[0] is "Ġ"'],
  ])('refuses %j', (options, message) => {
    expect(() => trainBpe(['text'], options)).toThrow(ConfigError);
    expect(() => trainBpe(['text'], options)).toThrow(message);
  });

  it('refuses what are no texts', () => {
    expect(() => trainBpe('text')).toThrow('texts is one string');
    expect(() => trainBpe([''])).toThrow('texts is empty');
    expect(() => trainBpe([{ name: 'a', text: 'b' }] as unknown as string[])).toThrow('a value of type object');
  });
});
