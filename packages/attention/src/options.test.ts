import { ConfigError, Rng } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import {
  AttentionRefinement,
  CoverageDecoder,
  LightNetAttention,
  LightNetBlock,
  PositionalAttention,
  PositionalTransformer,
  PositionDecoder,
  SymbolDecoder,
} from './index.ts';

describe.each([
  AttentionRefinement,
  CoverageDecoder,
  LightNetAttention,
  LightNetBlock,
  PositionalAttention,
  PositionalTransformer,
  PositionDecoder,
  SymbolDecoder,
])('$name', (Layer) => {
  it.each<[unknown, string]>([
    [undefined, 'the options are undefined; they must be an object'],
    [null, 'the options are null; they must be an object'],
    [8, 'the options are 8; they must be an object'],
    [{}, 'rng is undefined; it must be an Rng, as new Rng(0) is'],
    [{ rng: 1 }, 'rng is 1; it must be an Rng, as new Rng(0) is'],
  ])('refuses %o for options', (options, message) => {
    const make = (): unknown => new Layer(options as never);
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(`${Layer.name}: ${message}`);
  });
});

it('takes the layers that have defaults with a generator alone', () => {
  expect(new CoverageDecoder({ rng: new Rng(0) }).dim).toBe(256);
});
