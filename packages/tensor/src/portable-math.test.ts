import { describe, expect, it } from 'vitest';
import { cosTurn, logUniform } from './portable-math.ts';
import { Rng } from './rng.ts';

describe('portable functions', () => {
  const words = [0, 1, 2, 0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xb504f333, 0xfffffffe, 0xffffffff].concat(
    Array.from(new Rng('accuracy').uint32(20_000)),
  );

  it('logUniform agrees with Math.log to 2e-15 of its value', () => {
    for (const word of words) {
      expect(Math.abs(logUniform(word) / Math.log((word + 0.5) / 0x100000000) - 1)).toBeLessThan(2e-15);
    }
  });

  it('cosTurn agrees with Math.cos and Math.sin to 3e-15', () => {
    for (const word of words) {
      const angle = (2 * Math.PI * (word + 0.5)) / 0x100000000 - Math.PI / 4;
      expect(Math.abs(cosTurn(word) - Math.cos(angle))).toBeLessThan(3e-15);
      expect(Math.abs(cosTurn(word - 0x40000000) - Math.sin(angle))).toBeLessThan(3e-15);
    }
  });
});
