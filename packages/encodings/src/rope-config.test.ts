import { ConfigError } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { Rope } from './rope.ts';
import { type RopeModelConfig, ropeFromConfig } from './rope-config.ts';

describe('ropeFromConfig', () => {
  it('reads Llama 3.1', () => {
    const rope = ropeFromConfig({
      hidden_size: 4096,
      num_attention_heads: 32,
      max_position_embeddings: 131072,
      rope_theta: 500000,
      rope_scaling: {
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
        rope_type: 'llama3',
      },
    });
    expect(rope).toMatchObject({ headDim: 128, rotaryDim: 128, base: 500000, layout: 'half' });
    expect(rope.frequencies().inverseFrequencies[63]).toBeCloseTo(3.068925988914511e-7, 12);
  });

  it('reads newer configs, fractions and absent scaling', () => {
    const parameters = { rope_type: 'default', rope_theta: 1000, partial_rotary_factor: 0.5 };
    expect(ropeFromConfig({ head_dim: 32, rope_parameters: parameters })).toMatchObject({ base: 1000, rotaryDim: 16 });
    expect(ropeFromConfig({ head_dim: 32, rope_scaling: null, partial_rotary_factor: 0.25 })).toMatchObject({
      base: 10000,
      rotaryDim: 8,
    });
    expect(ropeFromConfig({ head_dim: 8 }, { layout: 'interleaved' }).layout).toBe('interleaved');
    expect(
      ropeFromConfig({ head_dim: 8, max_position_embeddings: 64, rope_scaling: { type: 'dynamic', factor: 2 } }),
    ).toMatchObject({
      maxPositions: 64,
    });
  });

  // What transformers 5.24 makes of each.
  const LINEAR = { type: 'linear', factor: 4 };
  it.each<[string, Omit<RopeModelConfig, 'head_dim'>, number, string | undefined]>([
    ['type in rope_parameters', { rope_parameters: { ...LINEAR, rope_theta: 5e5 } }, 5e5, 'linear'],
    ['empty rope_parameters', { rope_theta: 70, rope_parameters: {}, rope_scaling: LINEAR }, 70, 'linear'],
    ['a base in rope_parameters', { rope_parameters: { rope_theta: 5e3 }, rope_scaling: LINEAR }, 1e4, 'linear'],
    ['default rope_parameters', { rope_parameters: { rope_type: 'default' }, rope_scaling: LINEAR }, 1e4, 'linear'],
    ['default rope_scaling', { rope_parameters: LINEAR, rope_scaling: { rope_type: 'default' } }, 1e4, undefined],
    ['empty rope_scaling', { rope_parameters: { ...LINEAR, rope_theta: 5e3 }, rope_scaling: {} }, 5e3, 'linear'],
    ['a base in rope_scaling', { rope_theta: 3, rope_scaling: { ...LINEAR, rope_theta: 5e5 } }, 5e5, 'linear'],
    [
      'nulls',
      { rope_theta: null, rope_scaling: null, rope_parameters: null, partial_rotary_factor: null },
      1e4,
      undefined,
    ],
  ])('reads %s as transformers does', (_, config, base, type) => {
    const rope = ropeFromConfig({ head_dim: 16, max_position_embeddings: null, ...config });
    const scaling = type === undefined ? {} : { rope_type: type, factor: 4 };
    expect(rope.base).toBe(base);
    expect(rope.rotaryDim).toBe(16);
    expect(rope.frequencies()).toEqual(new Rope({ headDim: 16, base, scaling }).frequencies());
  });

  it("takes the config's own length before YaRN before that of the scaling", () => {
    const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64 };
    const of = (config: object): unknown => ropeFromConfig({ head_dim: 16, ...config }).frequencies();
    const other = { ...yarn, original_max_position_embeddings: 512 };
    expect(of({ original_max_position_embeddings: 64, rope_scaling: other })).toEqual(of({ rope_scaling: yarn }));
    expect(of({ rope_scaling: other })).not.toEqual(of({ rope_scaling: yarn }));
    expect(of({ original_max_position_embeddings: 64 })).toEqual(of({}));
  });

  it('says what is missing', () => {
    expect(() => ropeFromConfig({ hidden_size: 8 })).toThrow(ConfigError);
    expect(() => ropeFromConfig({ hidden_size: 8 })).toThrow(/num_attention_heads/);
    expect(() => ropeFromConfig(null as unknown as RopeModelConfig)).toThrow(ConfigError);
    for (const field of ['rope_scaling', 'rope_parameters']) {
      expect(() => ropeFromConfig({ head_dim: 8, [field]: 'linear' })).toThrow(/rope_scaling is "linear"/);
    }
    expect(() => ropeFromConfig({ head_dim: 8, rope_scaling: { type: 'longrope', factor: 2 } })).toThrow(/"longrope"/);
  });
});
