import { ConfigError } from '@ashlar/tensor';
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

  it('refuses what it cannot do', () => {
    const of = (scaling: RopeScaling, maxPositions?: number) => () =>
      ropeFrequencies({ dim: 8, base: 10000, scaling, maxPositions });
    expect(of({ rope_type: 'linear', factor: 0.5 })).toThrow(ConfigError);
    expect(of({ rope_type: 'linear', factor: 0.5 })).toThrow(/factor is 0.5; it must be at least 1/);
    expect(of({ rope_type: 'lama3' })).toThrow(/Closest: llama3/);
    expect(of({ rope_type: 'toString' })).toThrow(/'toString'/);
    expect(of({ rope_type: 'yarn', factor: 2 })).toThrow(/original_max_position_embeddings \(or maxPositions\)/);
    expect(of({ rope_type: 'llama3', factor: 2, low_freq_factor: 4, high_freq_factor: 4 }, 64)).toThrow(
      /high_freq_factor/,
    );
  });
});
