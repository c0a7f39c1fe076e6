import type { Inspection } from '@ashlar/encodings';
import { describe, expect, it } from 'vitest';
import { inspectionFigure } from './figure.ts';

/** Of three positions, as of a causal encoding whose later keys are the most similar. */
const inspection = (causal: boolean, reach: number): Inspection => ({
  causal,
  similarity: [
    [0, 5, 9],
    [-1, 0, 5],
    [-2, -1, 0],
  ],
  monotonicity: 1,
  shiftInvariance: 1,
  symmetry: -1,
  extrapolation: { trained: 3, similarity: Array.from({ length: 3 * reach }, (_, i) => -i), unseen: 1 },
});

const GREY = /<rect[^>]* fill="#ddd"/g;
/** What stands beside the scale of colours, the second picture of three. */
const scale = (svg: string): string[] => {
  const [, own] = /translate\(288 50\)(.*)translate\(360 50\)/s.exec(svg) ?? [];
  return [...own.matchAll(/>([−\d.]+)<\/text>/g)].map(([, tick]) => tick);
};

describe('inspectionFigure', () => {
  it('leaves out keys after the query, from the scale of colours too, and says so', () => {
    const svg = inspectionFigure('causal', inspection(true, 2));
    expect(svg.match(GREY)).toHaveLength(3);
    expect(svg).toMatch(/key \(grey: after the query, not measured\)/);
    const ticks = scale(svg);
    expect([ticks[0], ticks.at(-1)]).toEqual(['−2.0', '0.0']);
  });

  it('shows all keys of an encoding that looks both ways', () => {
    const svg = inspectionFigure('both', inspection(false, 2));
    expect(svg).not.toMatch(GREY);
    expect(svg).not.toMatch(/grey/);
    expect(scale(svg)).toContain('8');
  });

  it('says what is shaded, where something is', () => {
    expect(inspectionFigure('far', inspection(true, 2))).toMatch(/shaded: beyond the trained length/);
    expect(inspectionFigure('near', inspection(true, 1))).not.toMatch(/shaded/);
  });

  it('has a scale where nothing varies', () => {
    const flat = { ...inspection(false, 1), similarity: [0, 0, 0].map(() => [4, 4, 4]) };
    expect(scale(inspectionFigure('flat', flat))).toContain('4.0');
  });
});
