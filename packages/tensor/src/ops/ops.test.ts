import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  ConfigError,
  cos,
  crossEntropy,
  einsum,
  exp,
  flip,
  gatherRows,
  gelu,
  grad,
  grads,
  l2Normalize,
  logSoftmax,
  logSumExp,
  matMul,
  memory,
  mul,
  noGrad,
  ones,
  range,
  repeatInterleave,
  reshape,
  roll,
  rotaryEmbedding,
  round,
  ShapeError,
  scatterRowsAdd,
  setBackend,
  silu,
  sin,
  slice,
  softmax,
  square,
  stopGradient,
  straightThrough,
  sub,
  sum,
  type Tensor,
  takeAlongAxis,
  tanh,
  tensor,
  tensor1d,
  tensor2d,
  tidy,
  topK,
  topKMask,
  transpose,
  tril,
  trilMask,
  triu,
  triuMask,
  zeros,
} from '../index.ts';
import { expectNoLeak, gradCheck } from '../testing/index.ts';

beforeAll(() => setBackend('cpu'));

/** Irregular values of both signs, the same for the same shape. */
function sample(shape: number[], offset = 0): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Array.from(
    { length: size },
    (_, i) => (i % 2 ? -1 : 1) * (0.2 + (((i + 1 + offset) * 0.618034) % 1) * 1.3),
  );
  return tensor(values, shape);
}

const ids = (values: number[], shape: number[]): Tensor => tensor(values, shape, 'int32');
const values = (f: () => Tensor): number[] => {
  const result = tidy(f);
  const data = Array.from(result.dataSync());
  result.dispose();
  return data;
};

/** Values near `expected`, gradients of both orders right, nothing left behind. */
function verify(f: (...xs: Tensor[]) => Tensor, inputs: Tensor[], expected?: number[]): void {
  if (expected !== undefined) {
    const actual = values(() => f(...inputs));
    expect(actual).toHaveLength(expected.length);
    for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 5);
  }
  gradCheck((...xs) => square(f(...xs)), inputs);
  expectNoLeak(() => f(...inputs));
  expectNoLeak(() => grads((...xs) => sum(f(...xs)))(inputs.filter(({ dtype }) => dtype === 'float32')));
}

describe('activations', () => {
  it('gelu is exact, or by tanh', () => {
    // torch.nn.functional.gelu
    verify((x) => gelu(x), [tensor1d([-2, -0.5, 0, 0.7, 3])], [-0.0455003, -0.1542688, 0, 0.530626, 2.9959502]);
    verify(
      (x) => gelu(x, { approximate: 'tanh' }),
      [tensor1d([-2, -0.5, 0, 0.7, 3])],
      [-0.0454023, -0.154286, 0, 0.5305708, 2.9963627],
    );
    expect(() => gelu(tensor1d([1]), { approximate: 'fast' as 'tanh' })).toThrow(/'none' or 'tanh'/);
  });

  it('silu', () => {
    verify((x) => silu(x), [tensor1d([-2, 0, 1.5])], [-0.2384058, 0, 1.2263618]);
  });

  it('softmax and logSoftmax take any axis', () => {
    const x = sample([2, 3, 2]);
    for (const axis of [0, 1, -1]) {
      verify((x) => softmax(x, axis), [x]);
      verify(
        (x) => logSoftmax(x, axis),
        [x],
        values(() => sub(x, logSumExp(x, axis, true))),
      );
      expect(values(() => sum(softmax(x, axis), axis)).every((total) => Math.abs(total - 1) < 1e-6)).toBe(true);
    }
    expect(() => logSoftmax(x, 3)).toThrow(ShapeError);
    // The shift by the maximum keeps large logits finite.
    expect(values(() => logSoftmax(tensor1d([1000, 0])))).toEqual([0, -1000]);
  });

  it('l2Normalize', () => {
    verify(
      (x) => l2Normalize(x),
      [
        tensor2d([
          [3, 4],
          [1, 0],
        ]),
      ],
      [0.6, 0.8, 1, 0],
    );
    verify((x) => l2Normalize(x, 0), [sample([3, 2])]);
    const atZero = values(() => grad((x) => sum(l2Normalize(x, -1, 1e-3)))(zeros([2])));
    expect(atZero[0]).toBeCloseTo(1000, 1);
  });
});

describe('crossEntropy', () => {
  const logits = (): Tensor => sample([2, 3, 4]);
  const labels = (): Tensor => ids([1, 3, -100, 0, 2, 2], [2, 3]);
  const weights = (): Tensor => tensor1d([0.5, 1, 2, 0.25]);

  /** The definition, in double precision. */
  function reference(z: number[], y: number[], smoothing: number, w: number[]): { losses: number[]; weight: number } {
    let weight = 0;
    const losses = y.map((label, i) => {
      if (label === -100) return 0;
      const row = z.slice(4 * i, 4 * i + 4);
      const lse = Math.log(row.reduce((total, v) => total + Math.exp(v), 0));
      weight += w[label];
      const smooth = row.reduce((total, v, c) => total + w[c] * (lse - v), 0);
      return (1 - smoothing) * w[label] * (lse - row[label]) + (smoothing / 4) * smooth;
    });
    return { losses, weight };
  }

  it.each([
    { smoothing: 0, weighted: false },
    { smoothing: 0.2, weighted: false },
    { smoothing: 0, weighted: true },
    { smoothing: 0.3, weighted: true },
  ])('follows its definition, with $smoothing, weights: $weighted', ({ smoothing, weighted }) => {
    const y = labels();
    const classWeights = weighted ? weights() : undefined;
    const expected = reference(
      Array.from(logits().dataSync()),
      Array.from(y.dataSync()),
      smoothing,
      weighted ? Array.from(weights().dataSync()) : [1, 1, 1, 1],
    );
    const total = expected.losses.reduce((a, b) => a + b, 0);
    const options = { labelSmoothing: smoothing, classWeights };
    verify((z) => crossEntropy(z, y, { ...options, reduction: 'none' }), [logits()], expected.losses);
    verify((z) => crossEntropy(z, y, { ...options, reduction: 'sum' }), [logits()], [total]);
    verify((z) => crossEntropy(z, y, options), [logits()], [total / expected.weight]);
  });

  it('is NaN in the mean and 0 in the sum when every label is ignored', () => {
    const none = ids([7, 7], [2]);
    expect(values(() => crossEntropy(ones([2, 3]), none, { ignoreIndex: 7 }))).toEqual([Number.NaN]);
    expect(values(() => crossEntropy(ones([2, 3]), none, { ignoreIndex: 7, reduction: 'sum' }))).toEqual([0]);
  });

  it('refuses what does not fit', () => {
    expect(() => crossEntropy(ones([2, 3]), ids([0], [1]))).toThrow(ShapeError);
    expect(() => crossEntropy(ones([2, 3]), ones([2]))).toThrow(/int32/);
    expect(() => crossEntropy(ones([1, 3]), ids([3], [1]))).toThrow();
    expect(() => crossEntropy(ones([1, 3]), ids([0], [1]), { labelSmoothing: 2 })).toThrow(ConfigError);
    expect(() => crossEntropy(ones([1, 3]), ids([0], [1]), { classWeights: ones([2]) })).toThrow(/\[3\]/);
    expect(() => crossEntropy(ones([1, 3]), ids([0], [1]), { reduction: 'avg' as 'sum' })).toThrow(/'none'/);
  });
});

describe('rows and indices', () => {
  it('gatherRows and scatterRowsAdd are each other’s adjoints', () => {
    const places = ids([2, 0, 2, 2], [2, 2]);
    verify(
      (table) => gatherRows(table, places),
      [
        tensor2d([
          [1, 2],
          [3, 4],
          [5, 6],
        ]),
      ],
      [5, 6, 1, 2, 5, 6, 5, 6],
    );
    verify((rows) => scatterRowsAdd(rows, places, 4), [sample([2, 2, 3])]);
    expect(values(() => scatterRowsAdd(ones([4, 1]), ids([2, 0, 2, 2], [4]), 4))).toEqual([1, 0, 3, 0]);
    expect(() => gatherRows(ones([2, 2]), ones([1]))).toThrow(ShapeError);
    expect(() => scatterRowsAdd(ones([2, 2]), ids([0], [1]), 3)).toThrow(ShapeError);
  });

  it('takeAlongAxis picks along any axis', () => {
    const x = tensor2d([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const [last, first, middle] = [ids([1, 1, 0, 2], [2, 2]), ids([1, 0, 1], [1, 3]), ids([1, 0, 0, 1], [2, 1, 2])];
    verify((x) => takeAlongAxis(x, last), [x], [2, 2, 4, 6]);
    verify((x) => takeAlongAxis(x, first, 0), [x], [4, 2, 6]);
    verify((x) => takeAlongAxis(x, middle, 1), [sample([2, 3, 2])]);
    expect(() => takeAlongAxis(ones([2, 3]), ids([0], [1, 1]))).toThrow(ShapeError);
  });

  it('topK is differentiable in its values, topKMask constant', () => {
    const x = tensor2d([
      [1, 5, 3],
      [9, 7, 8],
    ]);
    expect(values(() => topK(x, 2).indices)).toEqual([1, 2, 0, 2]);
    verify((x) => tidy(() => topK(x, 2).values), [x], [5, 3, 9, 8]);
    verify((x) => tidy(() => mul(x, topKMask(square(x), 2))), [x], [0, 5, 3, 9, 0, 8]);
    expectNoLeak(() => topK(x, 2));
    expectNoLeak(() => topKMask(x, 2));
    expect(values(() => topKMask(ones([2, 4]), 2))).toEqual([1, 1, 0, 0, 1, 1, 0, 0]);
    expect(values(() => topKMask(ones([3]), 0))).toEqual([0, 0, 0]);
    expect(() => topK(x, 4)).toThrow(/0 to 3/);
  });

  it('flip, roll, repeatInterleave, tril, triu', () => {
    const x = tensor2d([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    verify((x) => flip(x, 1), [x], [3, 2, 1, 6, 5, 4]);
    verify((x) => roll(x, 1), [x], [3, 1, 2, 6, 4, 5]);
    verify((x) => roll(x, -4), [x], [2, 3, 1, 5, 6, 4]);
    verify((x) => roll(x, 3, 0), [x], [4, 5, 6, 1, 2, 3]);
    verify((x) => roll(x, 0), [x], [1, 2, 3, 4, 5, 6]);
    verify((x) => repeatInterleave(x, 2, 0), [x], [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
    verify((x) => repeatInterleave(x, 2, -1), [x], [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    verify((x) => tril(x), [x], [1, 0, 0, 4, 5, 0]);
    verify((x) => triu(x, 1), [x], [0, 2, 3, 0, 0, 6]);
    expect(values(() => trilMask(2, 3, 1))).toEqual([1, 1, 0, 1, 1, 1]);
    expect(values(() => triuMask(2, 2))).toEqual([1, 1, 0, 1]);
    expect(() => repeatInterleave(x, 0, 0)).toThrow(ConfigError);
    expect(() => tril(ones([3]))).toThrow(ShapeError);
  });
});

describe('constants for differentiation', () => {
  it('stopGradient lets nothing through', () => {
    const x = tensor1d([2, 3]);
    expect(values(() => grad((x) => sum(mul(stopGradient(square(x)), x)))(x))).toEqual([4, 9]);
    const unused = grads((x, y) => sum(add(stopGradient(x), y)));
    expect(() => unused([x, x.clone()])).toThrow(/Cannot compute gradient|gradient/);
    expectNoLeak(() => stopGradient(x));
  });

  it('noGrad hides what it runs, but not gradients taken inside', () => {
    const x = tensor1d([2, 3]);
    expect(
      values(() =>
        grad((x) =>
          sum(
            mul(
              noGrad(() => exp(square(x))),
              x,
            ),
          ),
        )(x),
      )[0],
    ).toBeCloseTo(Math.exp(4), 3);
    const inner = (x: Tensor): Tensor => noGrad(() => grad((x) => sum(square(x)))(x));
    expect(values(() => grad((x) => sum(mul(inner(x), x)))(x))).toEqual([4, 6]);
    expectNoLeak(() =>
      grad((x) =>
        sum(
          mul(
            noGrad(() => exp(square(x))),
            x,
          ),
        ),
      )(x),
    );
  });

  it('straightThrough has the value of one and the gradient of the other', () => {
    const x = tensor1d([0.3, 1.7]);
    const rounded = (x: Tensor): Tensor => straightThrough(round(x), square(x));
    expect(values(() => rounded(x))).toEqual([0, 2]);
    expect(values(() => grad((x) => sum(rounded(x)))(x))[1]).toBeCloseTo(3.4, 5);
    const second = grad((x) => sum(square(grad((x) => sum(rounded(x)))(x))));
    expect(values(() => second(x))[0]).toBeCloseTo(8 * 0.3, 5);
    expectNoLeak(() => grad((x) => sum(rounded(x)))(x));
    expect(() => straightThrough(ones([2]), ones([3]))).toThrow(ShapeError);
  });
});

describe('matMul', () => {
  it('broadcasts batches of both operands', () => {
    const a = sample([2, 1, 2, 3]);
    const b = sample([3, 3, 2], 4);
    const expected = [0, 1].flatMap((i) =>
      [0, 1, 2].flatMap((j) =>
        values(() => matMul(reshape(slice(a, [i, 0], [1, 1]), [2, 3]), reshape(slice(b, j, 1), [3, 2]))),
      ),
    );
    verify((a, b) => matMul(a, b), [a, b], expected);
    verify((a, b) => matMul(a, b, false, true), [sample([2, 1, 2, 3]), sample([2, 2, 2, 3], 9)]);
  });
});

describe('einsum', () => {
  /** By the definition: sums over all index values. */
  function reference(equation: string, operands: Tensor[]): number[] {
    const [left, output] = equation.split('->');
    const inputs = left.split(',');
    const sizes = new Map(
      inputs.flatMap((labels, i) => [...labels].map((label, axis) => [label, operands[i].shape[axis]])),
    );
    const all = [...new Set(output + inputs.join(''))];
    const result = new Array([...output].reduce((n, label) => n * (sizes.get(label) ?? 1), 1)).fill(0);
    const at = new Map<string, number>();
    const flat = (labels: string): number =>
      [...labels].reduce((index, l) => index * (sizes.get(l) ?? 1) + (at.get(l) ?? 0), 0);
    const data = operands.map((operand) => operand.dataSync());
    const visit = (depth: number): void => {
      if (depth === all.length) {
        result[flat(output)] += inputs.reduce((product, labels, i) => product * data[i][flat(labels)], 1);
        return;
      }
      for (let i = 0; i < (sizes.get(all[depth]) ?? 1); i++) {
        at.set(all[depth], i);
        visit(depth + 1);
      }
    };
    visit(0);
    return result;
  }

  const size: Record<string, number> = { a: 2, b: 3, c: 2, d: 3, e: 1 };

  it.each([
    'ab,bc->ac',
    'ab,cb->ac',
    'ba,bc->ca',
    'abc,abd->acd',
    'abc,adc->adb',
    'abc,dc->dab',
    'a,b->ab',
    'ab,ab->ab',
    'ab,a->ba',
    'ab,ab->',
    'abc->cab',
    'abc->b',
    'ab,cd->ad',
    'ab,bc,cd->ad',
    'ab,cb,ae->ec',
    'abcd,bd->ca',
  ])('%s', (equation) => {
    const operands = equation
      .split('->')[0]
      .split(',')
      .map((labels, i) =>
        sample(
          [...labels].map((label) => size[label]),
          7 * i,
        ),
      );
    verify((...xs) => einsum(equation, ...xs), operands, reference(equation, operands));
  });

  it('reads implicit results and ellipses', () => {
    const [a, b] = [sample([2, 3]), sample([3, 2], 5)];
    expect(values(() => einsum('ij,jk', a, b))).toEqual(values(() => matMul(a, b)));
    expect(values(() => einsum('ji', a))).toEqual(values(() => transpose(a)));
    const [x, y] = [sample([2, 2, 2, 3]), sample([2, 2, 4, 3], 3)];
    const expected = values(() => matMul(x, y, false, true));
    verify((x, y) => einsum('...qd,...kd->...qk', x, y), [x, y], expected);
    verify((x, w) => einsum('...i,oi->...o', x, w), [sample([2, 1, 3]), sample([2, 3])]);
  });

  it.each([
    ['ii->i', 1, /twice in 'ii'/],
    ['ij,jk', 1, /2 operands in it, 1 given/],
    ['ij->k', 1, /'k' of the result is in no operand/],
    ['ij->jj', 1, /twice in the result/],
    ['i1->i', 1, /an equation is/],
    ['i->j->k', 1, /an equation is/],
    ['ijk->i', 1, /operand 0 is 'ijk' but has shape \[2,3\]/],
    ['ij,ij->i', 2, /size/],
  ])('refuses %s', (equation, count, message) => {
    const operands = [ones([2, 3]), ones([3, 2])].slice(0, count);
    expect(() => einsum(equation, ...operands)).toThrow(message);
  });
});

describe('testing helpers', () => {
  it('gradCheck finds a wrong gradient and a wrong second-order one', () => {
    const x = tensor1d([0.5, 1.5]);
    expect(() => gradCheck((x) => straightThrough(tanh(x), x), [x])).toThrow(
      /The gradient with respect to input 0 \[2\]/,
    );
    // Its value is right, its gradient too, but that one is a constant for differentiation.
    const constantSlope = (x: Tensor): Tensor => sub(mul(stopGradient(mul(x, 2)), x), stopGradient(square(x)));
    gradCheck(constantSlope, [x], { order: 1 });
    expect(() => gradCheck(constantSlope, [x])).toThrow(/second-order/);
  });

  it('expectNoLeak counts what is left', () => {
    const before = memory().numTensors;
    const left: Tensor[] = [];
    expect(() => expectNoLeak(() => void left.push(range(0, 3)))).toThrow(/1 tensors and 1 data buffers/);
    for (const tensor of left) tensor.dispose();
    expect(memory().numTensors).toBe(before);
  });
});

describe('rotaryEmbedding', () => {
  const angles = tensor2d([0.5, -1, 2, 0.1, 3, -2], [3, 2]);
  it.each([
    ['halves', false, [0, 2], [1, 3]],
    ['neighbours', true, [0, 1], [2, 3]],
  ] as const)("turns %s by each row's angles", (_name, interleaved, first, second) => {
    const x = sample([2, 1, 3, 4]);
    const rows = x.dataSync();
    const turns = angles.arraySync() as number[][];
    const y = rotaryEmbedding(x, cos(angles), sin(angles), { interleaved }).dataSync();
    for (let row = 0; row < 6; row++) {
      for (const [pair, [i, j]] of [first, second].entries()) {
        const [a, b, angle] = [rows[4 * row + i], rows[4 * row + j], turns[row % 3][pair]];
        expect(y[4 * row + i]).toBeCloseTo(a * Math.cos(angle) - b * Math.sin(angle), 5);
        expect(y[4 * row + j]).toBeCloseTo(b * Math.cos(angle) + a * Math.sin(angle), 5);
      }
    }
  });

  it('refuses tables that do not fit', () => {
    expect(() => rotaryEmbedding(zeros([3, 6]), angles, angles)).toThrow(ShapeError);
    expect(() => rotaryEmbedding(zeros([2, 4]), angles, angles)).toThrow(ShapeError);
    expect(() => rotaryEmbedding(zeros([3, 4]), angles, zeros([3, 1]))).toThrow(ShapeError);
  });
});
