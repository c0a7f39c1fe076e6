import { complex, type Tensor, type Tensor2D, tensor1d, tensor2d, zeros } from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { ConfigError, NumericsError, ShapeError } from '../errors.ts';
import { Rng } from '../rng.ts';
import { cholesky } from './cholesky.ts';
import { eigh } from './eigh.ts';
import { inverse } from './inverse.ts';
import { lstsq } from './lstsq.ts';
import { nuclearNorm } from './nuclear-norm.ts';
import { qr } from './qr.ts';
import { randomizedSvd } from './randomized-svd.ts';
import { solve } from './solve.ts';
import { svd } from './svd.ts';
import { useCpuWithoutLeaks } from './testing.ts';

useCpuWithoutLeaks();

describe('bad input', () => {
  const b = Matrix.ones(2, 1);
  const functions: Record<string, (a: Tensor2D) => unknown> = {
    svd,
    randomizedSvd: (a) => randomizedSvd(a, 1, { rng: new Rng(0) }),
    qr,
    eigh,
    cholesky,
    inverse,
    nuclearNorm,
    solve: (a) => withRight(a, solve),
    lstsq: (a) => withRight(a, lstsq),
  };

  function withRight(a: Tensor2D, compute: (a: Tensor2D, b: Tensor2D) => unknown): unknown {
    const right = tensor2d(b.to2DArray());
    try {
      return compute(a, right);
    } finally {
      right.dispose();
    }
  }

  it.each(Object.keys(functions))('%s names what is wrong', (name) => {
    const compute = functions[name];
    const refuses = (a: Tensor, error: RegExp, type: new (message: string) => Error): void => {
      expect(() => compute(a as Tensor2D)).toThrow(error);
      expect(() => compute(a as Tensor2D)).toThrow(type);
      a.dispose();
    };
    refuses(tensor1d([1, 2]), new RegExp(`^${name}: a has shape \\[2\\]; it must be`), ShapeError);
    refuses(zeros([2, 2, 2]), /shape \[2,2,2\]/, ShapeError);
    refuses(zeros([0, 2]), /shape \[0,2\]/, ShapeError);
    refuses(tensor2d([1, 2, Number.NaN, 4], [2, 2]), /a is NaN at \[1, 0\]; .*Look for/, NumericsError);
    refuses(tensor2d([1, -Infinity, 3, 4], [2, 2]), /a is -Infinity at \[0, 1\]/, NumericsError);
    const real = tensor2d([1, 2, 3, 4], [2, 2]);
    refuses(complex(real, real), /dtype complex64/, ConfigError);
    real.dispose();
  });

  it.each(['eigh', 'cholesky', 'solve', 'inverse'])('%s needs a square matrix', (name) => {
    const a: Tensor2D = zeros([2, 3]);
    expect(() => functions[name](a)).toThrow(/shape \[2,3\]; it must be square/);
    a.dispose();
  });

  it.each([
    ['solve', solve],
    ['lstsq', lstsq],
  ] as const)('%s needs a right side that fits', (name, compute) => {
    const a = tensor2d([1, 2, 3, 4], [2, 2]);
    for (const right of [tensor1d([1, 2, 3]), zeros([3, 2]), zeros([2, 2, 2]), zeros([2, 0])]) {
      expect(() => compute(a, right as Tensor2D)).toThrow(new RegExp(`^${name}: b has shape`));
      right.dispose();
    }
    const nan = tensor1d([1, Number.NaN]);
    expect(() => compute(a, nan)).toThrow(/b is NaN at \[1, 0\]/);
    nan.dispose();
    a.dispose();
  });
});
