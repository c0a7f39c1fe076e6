import { ConfigError, Rng } from '@ashlar/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitDocuments } from './split-documents.ts';
import type { TextDocument } from './text.ts';

const documents = Array.from({ length: 20 }, (_, i): TextDocument => ({ name: `${i}`, text: `text ${i}` }));
const names = (part: readonly TextDocument[]): string[] => part.map(({ name }) => name);

describe('splitDocuments', () => {
  it('holds out the last ones', () => {
    expect(names(splitDocuments(documents).heldOut)).toEqual(['18', '19']);
    const { train, heldOut } = splitDocuments(documents, { count: 3 });
    expect([...train, ...heldOut]).toEqual(documents);
    expect(names(heldOut)).toEqual(['17', '18', '19']);
  });

  it('holds out at least one document', () => {
    expect(names(splitDocuments(documents.slice(0, 2), { fraction: 0.01 }).heldOut)).toEqual(['1']);
  });

  it('draws, the same ones from the same seed, in order and each once', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 20 }),
        fc.nat(),
        fc.double({ min: 0.01, max: 0.9, noNaN: true }),
        (total, seed, part) => {
          const all = documents.slice(0, total);
          const split = (): ReturnType<typeof splitDocuments> =>
            splitDocuments(all, {
              heldOut: 'random',
              count: Math.max(1, Math.floor(part * total)),
              rng: new Rng(seed),
            });
          const { train, heldOut } = split();
          expect(split()).toEqual({ train, heldOut });
          expect(all.filter((document) => train.includes(document))).toEqual(train);
          expect(all.filter((document) => !train.includes(document))).toEqual(heldOut);
          expect(heldOut.length).toBe(Math.max(1, Math.floor(part * total)));
        },
      ),
    );
  });

  it('draws others from other seeds', () => {
    const draws = Array.from({ length: 20 }, (_, seed) =>
      String(names(splitDocuments(documents, { heldOut: 'random', rng: new Rng(seed) }).heldOut)),
    );
    expect(new Set(draws).size).toBeGreaterThan(10);
  });

  describe('cuts a single document', () => {
    const cut = (text: string, fraction = 0.5): [string, string] => {
      const { train, heldOut } = splitDocuments([{ name: 'book', text }], { fraction });
      expect(names([...train, ...heldOut])).toEqual(['book (beginning)', 'book (end)']);
      return [train[0].text, heldOut[0].text];
    };

    it('after the nearest paragraph, else line, else word', () => {
      const line = 'word '.repeat(40);
      const [beginning, end] = cut(`${line}\n\n${line}\n${line}\n\n${line}`);
      expect(beginning.endsWith('\n')).toBe(true);
      expect(end.startsWith('word')).toBe(true);
      expect(cut(`${line}\n\n${line}`)).toEqual([`${line}\n\n`, line]);
      expect(cut(`${line}\r\n\r\n${line}`)).toEqual([`${line}\r\n\r\n`, line]);
      expect(cut(line, 0.52)).toEqual(['word '.repeat(19), 'word '.repeat(21)]);
    });

    it('into parts that make up the whole, near the place asked for, without tearing a character', () => {
      fc.assert(
        fc.property(
          fc.array(fc.constantFrom('😀', '一', 'a', ' ', '\n'), { minLength: 3, maxLength: 200 }),
          fc.double({ min: 0.2, max: 0.8, noNaN: true }),
          (parts, fraction) => {
            const text = `${parts.join('')}ab`;
            const [beginning, end] = cut(text, fraction);
            expect(beginning + end).toBe(text);
            expect(Math.abs(end.length - fraction * text.length)).toBeLessThanOrEqual(text.length / 20 + 1.5);
            expect(/^[\uDC00-\uDFFF]/.test(end)).toBe(false);
          },
        ),
      );
    });

    it('not if it is too short', () => {
      expect(() => cut('a')).toThrow('book is too short to be cut in two');
      expect(() => cut('😀')).toThrow(ConfigError);
    });
  });

  it.each([
    [[], {}, '1 of 0 documents held out leave none to learn from'],
    [documents.slice(0, 1), { count: 1 }, 'Leave count out to cut the one in two'],
    [documents, { count: 20 }, '20 of 20 documents held out leave none to learn from'],
    [documents, { count: 0 }, 'count is 0; it must be a whole number >= 1'],
    [documents, { count: 1.5 }, 'count is 1.5'],
    [documents, { fraction: 1 }, 'fraction is 1; it may be a number in (0, 1)'],
    [documents, { fraction: Number.NaN }, 'fraction is NaN'],
    [documents, { count: 1, fraction: 0.5 }, 'count and fraction are both given'],
    [documents, { heldOut: 'random' as const }, 'rng is missing'],
    [documents, { heldOut: 'first' as 'last' }, `heldOut is "first"; it may be 'last' or 'random'`],
  ])('%#: refuses options that leave a part empty or make no sense', (all, options, message) => {
    expect(() => splitDocuments(all, options)).toThrow(ConfigError);
    expect(() => splitDocuments(all, options)).toThrow(message);
  });
});
