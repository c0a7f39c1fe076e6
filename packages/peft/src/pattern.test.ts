import { ConfigError } from '@ashlar/tensor';
import { expect, it } from 'vitest';
import { compilePattern, matchesWhole } from './pattern.ts';

const matches = (name: string, pattern: string): boolean => matchesWhole(name, pattern, 'targetModules');

it('understands the patterns of real configs, lookaheads at the start included', () => {
  expect(matches('model.layers.0.self_attn.q_proj', '.*\\.(q|v)_proj')).toBe(true);
  expect(matches('model.layers.0.self_attn.k_proj', '.*\\.(q|v)_proj')).toBe(false);
  expect(matches('model.q_proj', 'q_proj')).toBe(false);
  const unsloth =
    '(?:.*?(?:vision|text).*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)|(?:\\bmodel\\.layers\\.[\\d]{1,}\\.x)';
  expect(matches('model.text.layers.0.mlp.up_proj', unsloth)).toBe(true);
  expect(matches('model.layers.12.x', unsloth)).toBe(true);
  for (const pattern of ['^(?!.*vision).*proj$', '(?=model\\.)^(?!.*(vision|audio[)]))(?P<all>.*proj)']) {
    expect(matches('model.text.q_proj', pattern)).toBe(true);
    expect(matches('model.vision.q_proj', pattern)).toBe(false);
  }
});

it.each([
  '(',
  '[',
  'a**',
  '(a)\\1',
  '.*(?<!x)y',
  '(?!a',
  '(?!a).*|b',
  '(?:(?:a{999}){999}){999}',
  'a'.repeat(501),
  'a{999}b{999}',
])('refuses %s by name', (pattern) => {
  expect(() => matches('model', pattern)).toThrow(ConfigError);
  expect(() => matches('model', pattern)).toThrow(/targetModules is no valid regular expression/);
  expect(() => compilePattern(pattern, 'rankPattern')).toThrow(/rankPattern/);
});

it.each([
  '(a|a)+',
  '(.*)*x',
  '(a|aa)+$',
  '(a+)+b',
  `${'(a|a)'.repeat(60)}x`,
  `${'a?'.repeat(60)}x`,
  `${'.*'.repeat(30)}x`,
])('matches in linear time: %s', (pattern) => {
  const start = performance.now();
  expect(matches(`${'a'.repeat(60)}!`, pattern)).toBe(false);
  expect(performance.now() - start).toBeLessThan(1000);
});
