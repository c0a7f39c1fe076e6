import { ConfigError } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import { ropeFromConfig } from './rope-config.ts';

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

  it('says what is missing', () => {
    expect(() => ropeFromConfig({ hidden_size: 8 })).toThrow(ConfigError);
    expect(() => ropeFromConfig({ hidden_size: 8 })).toThrow(/num_attention_heads/);
    expect(() => ropeFromConfig({ head_dim: 8, rope_scaling: { type: 'longrope', factor: 2 } })).toThrow(/'longrope'/);
  });
});
