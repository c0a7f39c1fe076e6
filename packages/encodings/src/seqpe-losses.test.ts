import '@tensorflow/tfjs-backend-cpu';
import {
  add,
  ConfigError,
  grads,
  mul,
  Rng,
  reshape,
  ShapeError,
  setBackend,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  zeros,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { contrastivePositionLoss, positionTransferLoss } from './seqpe-losses.ts';

beforeAll(() => setBackend('cpu'));

const normal = (seed: number, shape: [number, number] | [number, number, number]): Tensor =>
  new Rng(seed).normal(shape as [number, number]);
const valueOf = (loss: Tensor): number => loss.dataSync()[0];

describe('contrastivePositionLoss', () => {
  const [pivots, candidates] = [0, 1].map((seed) => () => normal(seed, seed === 0 ? [3, 4] : [15, 4]));
  const labels = (): Tensor => tensor1d([0, 4, 2], 'int32');

  it.each([{}, { heads: 2, logitScale: 1.5, labelSmoothing: 0.1 }])(
    'has right gradients with %o, and leaks nothing',
    (o) => {
      const wanted = labels();
      gradCheck((p, c) => contrastivePositionLoss(p, c, wanted, o), [pivots(), candidates()]);
      const [p, c] = [pivots(), candidates()];
      expectNoLeak(() => contrastivePositionLoss(p, c, wanted, o));
    },
  );

  it('is the logarithm of the number of candidates where all are alike, and falls as the right one comes closer', () => {
    expect(valueOf(contrastivePositionLoss(pivots(), zeros([15, 4]), labels()))).toBeCloseTo(Math.log(5), 5);
    const [p, c] = [pivots(), candidates().arraySync() as number[][]];
    for (const [i, right] of [0, 4, 2].entries()) c[5 * i + right] = (p.arraySync() as number[][])[i].map((x) => 9 * x);
    const close = contrastivePositionLoss(p, tensor2d(c), labels());
    expect(valueOf(close)).toBeLessThan(valueOf(contrastivePositionLoss(p, candidates(), labels())));
  });

  it('refuses shapes and options that do not fit', () => {
    expect(() => contrastivePositionLoss(pivots(), normal(1, [14, 4]), labels())).toThrow(ShapeError);
    expect(() => contrastivePositionLoss(pivots(), normal(1, [15, 3]), labels())).toThrow(/\[15,3\]/);
    expect(() => contrastivePositionLoss(pivots(), candidates(), tensor1d([0], 'int32'))).toThrow(ShapeError);
    expect(() => contrastivePositionLoss(pivots(), candidates(), labels(), { heads: 3 })).toThrow(/heads is 3/);
    expect(() => contrastivePositionLoss(pivots(), candidates(), labels(), { logitScale: 0 })).toThrow(ConfigError);
  });
});

describe('positionTransferLoss', () => {
  const [teacher, student] = [2, 3].map((seed) => () => normal(seed, [2, 3, 4]));

  it.each([
    { beta: 0.8, heads: 2 },
    { beta: 0.3, metric: 'mse' },
    { beta: 1, logitScale: 0.5 },
  ] as const)('has right gradients of the student with %o, and leaks nothing', (options) => {
    const [t, s] = [teacher(), student()];
    // Differences see through `stopGradient`: they are those of both halves, so only the student's share is compared.
    const [analytic] = grads((s) => positionTransferLoss(t, s as Tensor, options))([s]);
    const [whole] = grads((s) => positionTransferLoss(t, s as Tensor, { ...options, beta: 1 }))([s]);
    for (const [i, value] of analytic.dataSync().entries()) {
      expect(value).toBeCloseTo(options.beta * whole.dataSync()[i], 6);
    }
    gradCheck((s) => positionTransferLoss(t, s, { ...options, beta: 1 }), [s]);
    expectNoLeak(() => positionTransferLoss(t, s, options));
  });

  it('is 0 for windows that look alike and more for others, and with beta 1 leaves the teacher alone', () => {
    expect(valueOf(positionTransferLoss(teacher(), teacher(), { beta: 0.5 }))).toBeCloseTo(0, 6);
    expect(valueOf(positionTransferLoss(teacher(), student()))).toBeGreaterThan(1e-3);
    const s = student();
    const gradient = (beta: number): number[] => {
      const [own] = grads((t) => add(positionTransferLoss(t as Tensor, s, { beta }), mul(sum(t as Tensor), 0)))([
        teacher(),
      ]);
      return [...own.dataSync()];
    };
    expect(gradient(1).every((value) => value === 0)).toBe(true);
    expect(gradient(0.5).some((value) => Math.abs(value) > 1e-4)).toBe(true);
  });

  it('is the mean over all entries, not the sum of rows', () => {
    const of = (x: Tensor): number[][] => {
      const rows = x.arraySync() as number[][];
      return rows.map((row) => {
        const products = rows.map((other) => other.reduce((total, value, i) => total + value * row[i], 0));
        const total = Math.log(products.reduce((total, product) => total + Math.exp(product), 0));
        return products.map((product) => product - total);
      });
    };
    const [t, s] = [normal(2, [3, 4]), normal(3, [3, 4])];
    const [T, Z] = [of(t).flat(), of(s).flat()];
    const expected = T.reduce((total, x, i) => total + Math.exp(x) * (x - Z[i]) + Math.exp(Z[i]) * (Z[i] - x), 0) / 9;
    expect(valueOf(positionTransferLoss(reshape(t, [1, 3, 4]), reshape(s, [1, 3, 4])))).toBeCloseTo(expected, 5);
  });

  it('refuses shapes and options that do not fit', () => {
    expect(() => positionTransferLoss(teacher(), normal(3, [2, 2, 4]))).toThrow(ShapeError);
    expect(() => positionTransferLoss(teacher(), student(), { heads: 3 })).toThrow(/heads is 3/);
    expect(() => positionTransferLoss(teacher(), student(), { beta: 2 })).toThrow(/beta is 2/);
    expect(() => positionTransferLoss(teacher(), student(), { metric: 'l1' as 'mse' })).toThrow(/"kl_div", "mse"/);
  });
});
