import '@tensorflow/tfjs-backend-cpu';
import {
  ConfigError,
  cast,
  concat,
  type PositionEncoding,
  Rng,
  reshape,
  ShapeError,
  setBackend,
  slice,
  sub,
  type Tensor,
  tile,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  attend,
  type Initializer,
  KeyValueCache,
  Linear,
  MultiHeadAttention,
  mergeHeads,
  normal_,
  splitHeads,
  TransformerBlock,
} from './index.ts';
import {
  checkParameterGradients,
  dot,
  expectClose,
  expectDisposes,
  type Matrix,
  random,
  rowsOf,
} from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(2);
const init: Initializer = normal_({ std: 0.5 });

/** Biased by the distance, so that wrong positions show. */
const distance = (heads: number): PositionEncoding => ({
  bias: (q, k) => {
    const [queries, keys] = [q, k].map(({ shape }) => shape[0] as number);
    const distances = reshape(sub(reshape(k, [1, -1]), reshape(q, [-1, 1])), [1, queries, keys]);
    return tile(cast(distances, 'float32'), [heads, 1, 1]);
  },
});

function project(layer: Linear, rows: Matrix): Matrix {
  const weight = rowsOf(layer.weight.stored);
  const bias = layer.bias === undefined ? undefined : rowsOf(layer.bias.stored)[0];
  return rows.map((row) => weight.map((w, i) => dot(row, w) + (bias?.[i] ?? 0)));
}

describe('MultiHeadAttention', () => {
  it('projects, attends in each head and projects back', () => {
    const layer = new MultiHeadAttention(8, { heads: 4, kvHeads: 2, headDim: 3, outBias: false, init, rng });
    const names = [...layer.namedParameters()].map(([name]) => name);
    expect(names.filter((name) => name.endsWith('bias'))).toEqual(['q_proj.bias', 'k_proj.bias', 'v_proj.bias']);
    expect(layer.k_proj.weight.shape).toEqual([6, 8]);
    const x = random([2, 3, 8]);
    const heads = (projection: Linear, count: number): Tensor =>
      splitHeads(reshape(project(projection, rowsOf(x)).flat(), [2, 3, count * 3]), count);
    const mixed = mergeHeads(attend(heads(layer.q_proj, 4), heads(layer.k_proj, 2), heads(layer.v_proj, 2)));
    expectClose(layer.apply(x), project(layer.out_proj, rowsOf(mixed)));
  });

  it('attends to a context of another length', () => {
    const layer = new MultiHeadAttention(4, { heads: 2, init, rng });
    const [x, context] = [random([1, 2, 4], 'x'), random([1, 5, 4], 'context')];
    const heads = (projection: Linear, of: Tensor): Tensor =>
      splitHeads(reshape(project(projection, rowsOf(of)).flat(), of.shape), 2);
    const mixed = attend(heads(layer.q_proj, x), heads(layer.k_proj, context), heads(layer.v_proj, context));
    expectClose(layer.apply(x, { context }), project(layer.out_proj, rowsOf(mergeHeads(mixed))));
    expect(() => layer.apply(x, { context, cache: new KeyValueCache() })).toThrow(ConfigError);
  });

  it('has the gradients of finite differences', () => {
    const layer = new MultiHeadAttention(4, { heads: 2, kvHeads: 1, causal: true, encoding: distance(2), init, rng });
    const x = random([1, 3, 4]);
    gradCheck((x) => layer.apply(x), [x]);
    checkParameterGradients(layer, () => layer.apply(x));
  });

  it('names what does not fit', () => {
    expect(() => new MultiHeadAttention(8, { heads: 3, rng })).toThrow('headDim (dim / heads) is 2.66');
    expect(() => new MultiHeadAttention(8, { heads: 4, kvHeads: 3, rng })).toThrow(ConfigError);
    const layer = new MultiHeadAttention(8, { heads: 2, rng });
    expect(() => layer.apply(random([3, 8]))).toThrow(ShapeError);
    expect(() => layer.apply(random([1, 3, 7]))).toThrow(ShapeError);
  });

  it('does not take the encoding for its child', () => {
    const encoding = Object.assign(new Linear(4, 4, { rng }), distance(1));
    const layer = new MultiHeadAttention(4, { heads: 1, encoding, rng });
    expect([...layer.namedParameters()]).toHaveLength(8);
  });

  it('refuses an encoding that is none', () => {
    for (const encoding of ['rope', null, new Linear(4, 4, { rng })]) {
      const options = { heads: 1, encoding: encoding as unknown as PositionEncoding, rng };
      expect(() => new MultiHeadAttention(4, options)).toThrow(
        /MultiHeadAttention: encoding .*pass a PositionEncoding/,
      );
      expect(() => new TransformerBlock(4, options)).toThrow(ConfigError);
    }
  });
});

describe.each(['pre', 'post'] as const)('TransformerBlock, %s-norm', (norm) => {
  const make = (layer = 0): TransformerBlock =>
    new TransformerBlock(8, { heads: 4, kvHeads: 2, causal: true, encoding: distance(4), layer, norm, init, rng });

  it('is its parts', () => {
    const block = make();
    const x = random([1, 3, 8]);
    const plus = (a: Tensor, b: Tensor): Tensor => sub(a, sub(0, b));
    const { attn, mlp, norm1, norm2 } = block;
    const y = norm === 'pre' ? plus(x, attn.apply(norm1.apply(x))) : norm1.apply(plus(x, attn.apply(x)));
    const z = norm === 'pre' ? plus(y, mlp.apply(norm2.apply(y))) : norm2.apply(plus(y, mlp.apply(y)));
    expectClose(block.apply(x), rowsOf(z));
    expect(block.mlp.fc1.weight.shape).toEqual([32, 8]);
  });

  it('decodes from a cache as it does in one pass', () => {
    const blocks = [make(0), make(1)];
    const run = (x: Tensor, cache?: KeyValueCache): Tensor => blocks.reduce((y, block) => block.apply(y, { cache }), x);
    const x = random([2, 6, 8]);
    const cache = new KeyValueCache();
    const parts = [
      [0, 3],
      [3, 1],
      [4, 2],
    ].map(([start, size]) => run(slice(x, [0, start, 0], [-1, size, -1]), cache));
    expectClose(concat(parts, 1), rowsOf(run(x)), 1e-5);
    expect(cache.length).toBe(6);
    // Back to three tokens, and on with the same ones.
    cache.truncate(3);
    expectClose(run(slice(x, [0, 3, 0], [-1, 1, -1]), cache), rowsOf(parts[1]), 1e-6);
    cache.dispose();
  });

  it('has the gradients of finite differences and leaves nothing behind', () => {
    const block = new TransformerBlock(4, { heads: 2, hidden: 3, norm, init, rng });
    const x = random([1, 2, 4]);
    gradCheck((x) => block.apply(x), [x], { order: 1 });
    checkParameterGradients(block, () => block.apply(x));
    expectNoLeak(() => block.apply(x));
    const wide = random([1, 2, 8]);
    expectDisposes(make, (made: TransformerBlock) => made.apply(wide));
  });

  it('drops in training only, alike for alike seeds', () => {
    const dropping = (): TransformerBlock =>
      new TransformerBlock(8, { heads: 2, dropout: 0.5, norm, init, rng: new Rng(5) });
    const x = random([1, 3, 8]);
    const [a, b] = [dropping(), dropping()].map((block) => block.apply(x).dataSync());
    expect(a).toEqual(b);
    expect(dropping().eval().apply(x).dataSync()).not.toEqual(a);
  });
});

it('TransformerBlock names a norm that there is not', () => {
  expect(() => new TransformerBlock(4, { heads: 1, norm: 'mid' as 'pre', rng })).toThrow(ConfigError);
  expect(() => new TransformerBlock(4, { heads: 1, activation: 'geloo', rng })).toThrow('gelu');
});
