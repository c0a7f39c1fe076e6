import '@tensorflow/tfjs-backend-cpu';
import {
  add,
  mul,
  ones,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  type Tensor,
  tensor,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type AttendOptions, attend, Dropout, mergeHeads, splitHeads } from './index.ts';
import { dot, expectClose, type Matrix, random, rowsOf, softmaxOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

interface Sizes {
  batch?: number;
  heads?: number;
  kvHeads?: number;
  queries?: number;
  keys?: number;
}

const [DIM, VALUE_DIM] = [4, 3];

function inputs({ batch = 2, heads = 4, kvHeads = 2, queries = 3, keys = 5 }: Sizes = {}): [Tensor, Tensor, Tensor] {
  return [
    random([batch, heads, queries, DIM], 'q'),
    random([batch, kvHeads, keys, DIM], 'k'),
    random([batch, kvHeads, keys, VALUE_DIM], 'v'),
  ];
}

/** The definition, row by row; `term(b, h, i, j)` is added to the scaled products. */
function reference(
  [q, k, v]: [Tensor, Tensor, Tensor],
  term: (b: number, h: number, i: number, j: number) => number = () => 0,
  scale: number = 1 / Math.sqrt(DIM),
): Matrix {
  const [batch, heads, queries] = q.shape as number[];
  const [, kvHeads, keys] = k.shape as number[];
  const [qs, ks, vs] = [q, k, v].map(rowsOf);
  const out: Matrix = [];
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const start = (b * kvHeads + Math.floor(h / (heads / kvHeads))) * keys;
      for (let i = 0; i < queries; i++) {
        const query = qs[(b * heads + h) * queries + i];
        const logits = Array.from({ length: keys }, (_, j) => scale * dot(query, ks[start + j]) + term(b, h, i, j));
        const weights = softmaxOf(logits);
        out.push(
          Array.from({ length: VALUE_DIM }, (_, d) => weights.reduce((sum, w, j) => sum + w * vs[start + j][d], 0)),
        );
      }
    }
  }
  return out;
}

const unless = (visible: boolean): number => (visible ? 0 : Number.NEGATIVE_INFINITY);
const ints = (values: number[]): Tensor => tensor(values, [values.length], 'int32');

describe('attend', () => {
  it('is softmax(q k^T / sqrt(d)) v', () => {
    const x = inputs();
    const y = attend(...x);
    expect(y.shape).toEqual([2, 4, 3, VALUE_DIM]);
    expectClose(y, reference(x));
    expectClose(attend(...x, { scale: 0.3 }), reference(x, undefined, 0.3));
  });

  it('agrees with the definition for any sizes, causal or not', () => {
    const size = fc.integer({ min: 1, max: 3 });
    fc.assert(
      fc.property(size, size, size, size, size, fc.boolean(), (batch, kvHeads, groups, queries, more, causal) => {
        const x = inputs({ batch, kvHeads, heads: kvHeads * groups, queries, keys: queries + more - 1 });
        const visible = (i: number, j: number): boolean => !causal || j <= i + more - 1;
        expectClose(
          attend(...x, { causal }),
          reference(x, (_, __, i, j) => unless(visible(i, j))),
        );
      }),
      { numRuns: 25 },
    );
  });

  it('gives grouped queries what repeated keys and values would', () => {
    const [q, k, v] = inputs();
    const repeat = (x: Tensor): Tensor => {
      const rows = rowsOf(x);
      const at = (b: number, h: number): Matrix => rows.slice((b * 2 + h) * 5, (b * 2 + h + 1) * 5);
      const order = [0, 1].flatMap((b) => [0, 0, 1, 1].map((h) => at(b, h)));
      return tensor(order.flat(2), [2, 4, 5, x.shape[3] as number]);
    };
    expectClose(attend(q, k, v, { causal: true }), rowsOf(attend(q, repeat(k), repeat(v), { causal: true })), 1e-6);
  });

  it('is causal by position where asked', () => {
    const x = inputs();
    const [qPositions, kPositions] = [
      [4, 0, 9],
      [0, 7, 4, 9, 0],
    ];
    expectClose(
      attend(...x, { causal: 'position', qPositions: ints(qPositions), kPositions: ints(kPositions) }),
      reference(x, (_, __, i, j) => unless(kPositions[j] <= qPositions[i])),
    );
  });

  it('takes masks of truth values and masks of logits, with causality', () => {
    const x = inputs();
    const allowed = [1, 1, 0, 1, 0, 1, 0, 0, 1, 1];
    const mask = tensor(allowed, [2, 1, 1, 5], 'bool');
    expectClose(
      attend(...x, { mask, causal: true }),
      reference(x, (b, _, i, j) => unless(allowed[b * 5 + j] === 1 && j <= i + 2)),
    );
    const bias = random([4, 3, 5], 'bias');
    const rows = rowsOf(bias);
    expectClose(
      attend(...x, { mask: bias }),
      reference(x, (_, h, i, j) => rows[h * 3 + i][j]),
    );
  });

  it('stays finite for a query that may see nothing', () => {
    const y = attend(...inputs(), { causal: true, mask: tensor([0, 0, 0, 0, 0], [1, 5], 'bool') });
    expect(y.dataSync().every(Number.isFinite)).toBe(true);
  });

  it('drops weights', () => {
    const x = inputs({ queries: 1, keys: 64 });
    const dropout = new Dropout(0.5, new Rng(0));
    expect(attend(...x, { dropout }).dataSync()).not.toEqual(attend(...x).dataSync());
    expect(attend(...x, { dropout: dropout.eval() }).dataSync()).toEqual(attend(...x).dataSync());
  });

  it('has the gradients of finite differences', () => {
    const sizes = { batch: 1, heads: 2, kvHeads: 1, queries: 2, keys: 3 };
    gradCheck((q, k, v) => attend(q, k, v, { causal: true }), inputs(sizes));
  });

  it('leaves nothing behind', () => {
    const x = inputs();
    const mask = ones([5]);
    expectNoLeak(() => attend(...x, { mask, causal: true }));
    expectNoLeak(() => attend(...x, { causal: 'position' }));
  });

  it.each<[string, Sizes, AttendOptions]>([
    ['heads that do not divide', { heads: 3 }, {}],
    ['more queries than keys', { queries: 6 }, { causal: true }],
    ['positions of another length', {}, { qPositions: ints([0, 1]) }],
    ['a mask of another shape', {}, { mask: ones([3, 4]) }],
  ])('refuses %s', (_, sizes, options) => {
    expect(() => attend(...inputs(sizes), options)).toThrow(ShapeError);
  });

  it('refuses tensors that do not belong together', () => {
    const [q, k, v] = inputs();
    expect(() => attend(q, k, random([2, 2, 4, VALUE_DIM]))).toThrow(ShapeError);
    expect(() => attend(q, random([2, 2, 5, 3]), v)).toThrow(ShapeError);
    expect(() => attend(random([2, 4, 3]), k, v)).toThrow(ShapeError);
  });
});

describe('attend asks the encoding', () => {
  const x = inputs();
  const context = { layer: 3 };
  const positions = { qPositions: ints([2, 3, 4]), kPositions: ints([0, 1, 2, 3, 4]) };

  it('for rotated queries and keys, telling positions and layer', () => {
    const encoding: PositionEncoding = {
      rotate(q, k, qPositions, kPositions, given) {
        expect([qPositions.dataSync().join(), kPositions.dataSync().join()]).toEqual(['2,3,4', '0,1,2,3,4']);
        expect(given).toEqual(context);
        return [mul(q, 2), add(k, 1)];
      },
    };
    const [q, k, v] = x;
    const expected = reference([mul(q, 2), add(k, 1), v]);
    expectClose(attend(...x, { encoding, layer: 3, ...positions }), expected);
    // The default: the queries are the last of the keys.
    expectClose(attend(...x, { encoding, layer: 3 }), expected);
  });

  it('for a bias', () => {
    const bias = random([4, 3, 5], 'bias');
    const rows = rowsOf(bias);
    expectClose(
      attend(...x, { encoding: { bias: () => bias.clone() }, causal: true }),
      reference(x, (_, h, i, j) => rows[h * 3 + i][j] + unless(j <= i + 2)),
    );
  });

  it('for the scores, with keys repeated for all heads', () => {
    const logits = random([2, 4, 3, 5], 'logits');
    const rows = rowsOf(logits);
    const encoding: PositionEncoding = {
      scores(_, k) {
        expect(k.shape).toEqual([2, 4, 5, DIM]);
        return logits.clone();
      },
      bias: () => {
        throw new Error('not asked beside scores');
      },
    };
    expectClose(
      attend(...x, { encoding, causal: true }),
      reference(x, (b, h, i, j) => rows[(b * 4 + h) * 3 + i][j] + unless(j <= i + 2), 0),
    );
    expectNoLeak(() => attend(...x, { encoding }));
  });
});

describe("attend refuses an encoding's answer of another shape", () => {
  it.each<[string, PositionEncoding, string]>([
    ['bias of other heads', { bias: () => ones([8, 3, 5]) }, 'bias must be [4,3,5] here; it is [8,3,5]'],
    ['bias of one head', { bias: () => ones([1, 3, 5]) }, 'bias must be [4,3,5] here; it is [1,3,5]'],
    ['scores of one head', { scores: () => ones([2, 1, 3, 5]) }, 'scores must be [2,4,3,5] here'],
    [
      'keys for all heads',
      { rotate: (q) => [q, ones([2, 4, 5, DIM])] },
      'rotate must be [2,2,5,4] here; it is [2,4,5,4]',
    ],
    ['keys wider than queries', { rotate: (q) => [q, ones([2, 2, 5, 8])] }, 'rotate must be [2,2,5,4] here'],
  ])('%s', (_, encoding, message) => {
    expect(() => attend(...inputs(), { encoding })).toThrow(ShapeError);
    expect(() => attend(...inputs(), { encoding })).toThrow(message);
  });
});

it('splits and merges heads', () => {
  const x = random([2, 3, 8]);
  const split = splitHeads(x, 4);
  expect(split.shape).toEqual([2, 4, 3, 2]);
  expectClose(mergeHeads(split), rowsOf(x), 1e-9);
  // Head 1 of the first token holds its channels 2 and 3.
  expectClose(tensor(rowsOf(split)[3]), rowsOf(x)[0].slice(2, 4), 1e-9);
});
