import { ConfigError, ShapeError } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { type RopeScaling, ropeFrequencies } from './rope-scaling.ts';

/** Checks some frequencies to float32 precision. */
function expectFrequencies(actual: Float32Array, expected: Record<number, number>): void {
  for (const [i, value] of Object.entries(expected)) expect(actual[Number(i)] / value).toBeCloseTo(1, 6);
}

describe('ropeFrequencies', () => {
  it('is geometric without scaling', () => {
    const { inverseFrequencies, attentionFactor } = ropeFrequencies({ dim: 8, base: 10000 });
    expect([...inverseFrequencies]).toEqual([1, 0.1, 0.01, 0.001].map(Math.fround));
    expect(attentionFactor).toBe(1);
  });

  // Values by the formulas of transformers' modeling_rope_utils, in double precision.
  it('scales as Llama 3.1', () => {
    const scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const { inverseFrequencies } = ropeFrequencies({ dim: 128, base: 500000, scaling, maxPositions: 131072 });
    expectFrequencies(inverseFrequencies, {
      0: 1,
      20: 0.016560440080994446,
      28: 0.003211445994752591,
      29: 0.002166570763503359,
      30: 0.0013718935677611381,
      32: 0.0005248461609929547,
      35: 9.556212353964683e-5,
      36: 7.78465527393245e-5,
      63: 3.068925988914511e-7,
    });
  });

  it('scales as YaRN, rounded or not, with its attention factors', () => {
    const deepseek = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, mscale: 1, mscale_all_dim: 1 };
    const rounded = ropeFrequencies({ dim: 64, base: 10000, scaling: deepseek });
    expectFrequencies(rounded.inverseFrequencies, {
      0: 1,
      9: 0.07498942093324558,
      15: 0.008334508951020777,
      20: 0.0007905694150420946,
      23: 3.33380358040831e-5,
      31: 3.3338035804083097e-6,
    });
    expect(rounded.attentionFactor).toBe(1);
    const gptOss = { rope_type: 'yarn', factor: 32, original_max_position_embeddings: 4096, truncate: false };
    const exact = ropeFrequencies({ dim: 64, base: 150000, scaling: gptOss });
    expectFrequencies(exact.inverseFrequencies, {
      8: 0.050813274815461475,
      9: 0.03170569618466377,
      12: 0.006794959489732219,
      15: 0.0010526021013863357,
      18: 3.8308812373753384e-5,
    });
    expect(exact.attentionFactor).toBeCloseTo(1.3465735902799727, 12);
    expect(ropeFrequencies({ dim: 64, base: 1e4, scaling: { ...gptOss, attention_factor: 2 } }).attentionFactor).toBe(
      2,
    );
  });

  it('grows with the length only beyond the trained one', () => {
    const at = (rope_type: string, length: number): number[] => [
      ...ropeFrequencies({ dim: 8, base: 10000, maxPositions: 64, length, scaling: { rope_type, factor: 2 } })
        .inverseFrequencies,
    ];
    const trained = [...ropeFrequencies({ dim: 8, base: 10000 }).inverseFrequencies];
    for (const type of ['dynamic', 'dynamic_yarn']) {
      expect(at(type, 10)).toEqual(trained);
      expect(at(type, 64)).toEqual(trained);
      expect(at(type, 256)[3]).toBeLessThan(trained[3]);
      expect(at(type, 256)[0]).toBe(1);
    }
  });

  it('grows beyond maxPositions, whatever the length before YaRN, as transformers does', () => {
    const of = (scaling: RopeScaling, length: number, maxPositions?: number): number[] => [
      ...ropeFrequencies({ dim: 8, base: 10000, maxPositions, length, scaling }).inverseFrequencies,
    ];
    const dynamic = { rope_type: 'dynamic', factor: 4 };
    const known = { ...dynamic, original_max_position_embeddings: 32 };
    for (const length of [32, 100, 512]) {
      expect(of(known, length, 128)).toEqual(of(dynamic, length, 128));
      expect(of(known, length)).toEqual(of(dynamic, length, 32));
    }
    const base = 10000 * ((4 * 512) / 128 - 3) ** (8 / 6);
    expectFrequencies(Float32Array.from(of(known, 512, 128)), { 1: base ** -0.25, 3: base ** -0.75 });
  });

  it('takes null as absent, and 0 for a beta, a mscale', () => {
    const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64 };
    const of = (scaling: RopeScaling | null): unknown => ropeFrequencies({ dim: 16, base: 10000, scaling });
    const absent = {
      rope_type: null,
      type: 'yarn',
      attention_factor: null,
      beta_fast: null,
      beta_slow: null,
      mscale: null,
      mscale_all_dim: null,
      truncate: null,
      low_freq_factor: null,
      high_freq_factor: null,
    };
    expect(of({ ...yarn, ...absent })).toEqual(of(yarn));
    expect(of({ ...yarn, beta_fast: 0, beta_slow: 0, mscale: 0, mscale_all_dim: 0 })).toEqual(of(yarn));
    expect(of({ ...yarn, beta_fast: 31 })).not.toEqual(of({ ...yarn, beta_fast: 2 }));
    for (const none of [null, {}, { rope_type: 'default', factor: 4 }, { original_max_position_embeddings: 64 }]) {
      expect(of(none)).toEqual(ropeFrequencies({ dim: 16, base: 10000 }));
    }
  });

  it.each([
    ['linear', 'factor'],
    ['ntk', 'factor'],
    ['dynamic', 'factor'],
    ['ntk_by_parts', 'factor'],
    ['yarn', 'factor'],
    ['llama3', 'factor'],
    ['llama3', 'low_freq_factor'],
    ['llama3', 'high_freq_factor'],
  ])('refuses %s without %s', (rope_type, field) => {
    const whole = { rope_type, factor: 4, low_freq_factor: 1, high_freq_factor: 4 };
    for (const value of [undefined, null]) {
      const make = (): unknown =>
        ropeFrequencies({ dim: 8, base: 10000, maxPositions: 64, scaling: { ...whole, [field]: value } });
      expect(make).toThrow(ConfigError);
      expect(make).toThrow(`rope_scaling.${field} is ${value}; ${rope_type} needs it`);
    }
  });

  it.each<[string, ...unknown[]]>([
    ['factor', 0.5, 0, -1, Number.NaN, Number.POSITIVE_INFINITY, '4', true, {}],
    ['original_max_position_embeddings', 0, -5, 2.5, Number.NaN, '64'],
    ['attention_factor', -1, 0, true, 'x', Number.NaN],
    ['mscale', -8, '1', Number.NaN],
    ['mscale_all_dim', -8, true],
    ['beta_fast', -3, 'x', true, Number.NaN],
    ['beta_slow', -1, 'x', Number.POSITIVE_INFINITY],
    ['low_freq_factor', 0, -1, 'a', true],
    ['high_freq_factor', 0, 1, 'b', Number.NaN],
    ['truncate', 0, 1, 'no'],
    ['rope_type', 5, true, {}, ['linear'], 'toString', 'lama3', 'longrope', 'mrope'],
  ])('refuses a wrong %s', (field, ...values) => {
    const good = { rope_type: 'llama3', factor: 4, low_freq_factor: 1, high_freq_factor: 4 };
    for (const value of values) {
      const make = (): unknown =>
        ropeFrequencies({ dim: 8, base: 10000, maxPositions: 64, scaling: { ...good, [field]: value } });
      expect(make).toThrow(ConfigError);
      expect(make).toThrow(new RegExp(`^rope_scaling[.:] ?${field}.* is `));
    }
  });

  it('says which types it supports, and refuses fields without a type and what is no object', () => {
    const of = (scaling: unknown) => (): unknown =>
      ropeFrequencies({ dim: 8, base: 10000, scaling: scaling as RopeScaling });
    expect(of({ type: 'longrope', short_factor: [1], long_factor: [2] })).toThrow(
      'rope_scaling.rope_type is "longrope", which is not supported; it may be default, linear, ntk, dynamic, ' +
        'ntk_by_parts, yarn, dynamic_yarn, llama3.',
    );
    expect(of({ factor: 4 })).toThrow('rope_scaling.rope_type is undefined, but factor is 4; give the type');
    expect(of({ type: null, beta_fast: 4 })).toThrow('rope_scaling.rope_type is null, but beta_fast is 4');
    for (const scaling of ['linear', 4, true, ['linear'], () => 4]) {
      expect(of(scaling)).toThrow(ConfigError);
      expect(of(scaling)).toThrow(/^rope_scaling is .*; it must be an object/);
    }
    for (const rope_type of ['dynamic', 'yarn', 'ntk_by_parts', 'dynamic_yarn']) {
      expect(of({ rope_type, factor: 2 })).toThrow(/original_max_position_embeddings \(or maxPositions\)/);
    }
  });

  it('refuses sizes, bases and lengths out of range', () => {
    const of = (options: object) => (): unknown => ropeFrequencies({ dim: 8, base: 10000, ...options });
    for (const dim of [7, 0, -2, 2.5, Number.NaN, 1e9, '8']) expect(of({ dim })).toThrow(/dim is/);
    expect(of({ dim: 7 })).toThrow(ShapeError);
    for (const base of [-1, 0, 1, Number.NaN, '10']) expect(of({ base })).toThrow(/base is/);
    for (const length of [-1, Number.NaN, Number.POSITIVE_INFINITY, '8']) expect(of({ length })).toThrow(/length is/);
    for (const maxPositions of [-1, 0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '8']) {
      expect(of({ maxPositions })).toThrow(/maxPositions is/);
    }
  });
});
