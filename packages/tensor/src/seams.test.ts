import { describe, expect, it } from 'vitest';
import { ConfigError } from './errors.ts';
import { Module } from './module.ts';
import { checkEncoding } from './seams.ts';

class Layer extends Module {
  override forward = <T>(x: T): T => x;
}

class Bias extends Layer {
  bias(): void {}
}

class None {
  readonly embed?: undefined;
}

describe('checkEncoding', () => {
  it.each([
    ['no method', {}],
    ['a class of none', new None()],
    ['one method', { rotate: () => [] }],
    ['a module', new Bias()],
  ])('takes %s', (_, encoding) => {
    expect(() => checkEncoding('Model', encoding)).not.toThrow();
  });

  it.each([
    ['a name', 'rope', 'is "rope"'],
    ['null', null, 'is null'],
    ['undefined', undefined, 'is undefined'],
    ['a list', [{}], 'is [{}]'],
    ['a class', Bias, 'is the function or class Bias itself'],
    ['a function', () => {}, 'is the function or class without a name itself'],
    ['a method that is none', { bias: [1] }, 'has [1] as bias'],
    ['a module of another kind', new Layer(), 'is a Layer, which has none of embed, rotate, bias, scores'],
  ])('refuses %s', (_, encoding, problem) => {
    const check = (): void => checkEncoding('Model', encoding);
    expect(check).toThrow(ConfigError);
    expect(check).toThrow(`Model: encoding ${problem}; pass a PositionEncoding`);
  });
});
