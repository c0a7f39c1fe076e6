import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quote } from './quote.ts';

describe('quote', () => {
  it.each([
    ['text', '"text"'],
    [{ a: [1, null] }, '{"a":[1,null]}'],
    [Number.NaN, 'NaN'],
    [undefined, 'undefined'],
    [null, 'null'],
    [7n, '7'],
    [Symbol('s'), 'Symbol(s)'],
    [{ toString: false }, '{"toString":false}'],
    [{ n: 7n }, 'an object'],
    [{ toJSON: () => undefined }, 'an object'],
  ])('gives %o', (value, text) => {
    expect(quote(value)).toBe(text);
  });

  it('cuts what is long', () => {
    expect(quote('a'.repeat(1e6))).toBe(`"${'a'.repeat(119)}…`);
    expect(quote('a'.repeat(120))).toBe(`"${'a'.repeat(120)}"`);
    expect(quote(Array(1000).fill(1))).toHaveLength(121);
  });

  it('takes anything', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withNullPrototype: true, withSparseArray: true }), (value) => {
        expect(quote(value).length).toBeLessThanOrEqual(122);
      }),
    );
  });
});
