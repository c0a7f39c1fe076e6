import '@tensorflow/tfjs-backend-cpu';
import { attend, normal_ } from '@ashlar/nn';
import {
  add,
  grads,
  type PositionEncoding,
  Rng,
  range,
  setBackend,
  slice,
  square,
  sum,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Alibi,
  Clex,
  Dpe,
  DualChunk,
  LearnedAbsolute,
  Loope,
  MdLrpe,
  Nope,
  PositionalScores,
  ReRope,
  Rope,
  SelfExtend,
  SeqPe,
  type SeqPeOptions,
  Sinusoidal,
  Sinusoidal2d,
  T5RelativeBias,
} from './index.ts';

const [HEADS, DIM, SEQ] = [2, 8, 6];
const rng = new Rng(0);

const seqPe = (mode: SeqPeOptions['mode']): SeqPe =>
  new SeqPe({
    mode,
    encoder: { dim: 16, outDim: mode === 'input_add' ? DIM : 16, heads: 2, layers: 1, dropout: 0 },
    maxPosition: 100,
    heads: HEADS,
    headDim: DIM,
    init: normal_({ std: 0.3 }),
    rng: rng.fork('seqpe'),
  });

const encodings: [string, () => PositionEncoding][] = [
  ['Nope', () => new Nope()],
  ['Sinusoidal', () => new Sinusoidal({ dim: DIM })],
  ['LearnedAbsolute', () => new LearnedAbsolute({ maxPositions: 32, dim: DIM, rng: rng.fork('learned') })],
  [
    'PositionalScores',
    () => new PositionalScores({ maxPositions: 32, heads: HEADS, dim: 4, layers: 1, rng: rng.fork('scores') }),
  ],
  ['Rope', () => new Rope({ headDim: DIM })],
  ['Rope, interleaved and partial', () => new Rope({ headDim: DIM, layout: 'interleaved', fraction: 0.5 })],
  ['Rope, yarn', () => new Rope({ headDim: DIM, maxPositions: 4, scaling: { rope_type: 'yarn', factor: 4 } })],
  ['Rope, dynamic', () => new Rope({ headDim: DIM, maxPositions: 4, scaling: { rope_type: 'dynamic', factor: 4 } })],
  ['Clex', () => new Clex({ headDim: DIM, originalLength: 64, maxFactor: 2, stepSize: 0.5, rng: rng.fork('clex') })],
  [
    'Clex, beyond its length',
    () => new Clex({ headDim: DIM, originalLength: 3, stepSize: 0.5, rng: rng.fork('clex') }),
  ],
  ['Dpe', () => new Dpe({ headDim: DIM, window: 2, scales: [2, 1] })],
  ['SelfExtend', () => new SelfExtend({ headDim: DIM, layout: 'interleaved', window: 4, group: 2 })],
  ['ReRope', () => new ReRope({ headDim: DIM, window: 3 })],
  ['ReRope, leaky', () => new ReRope({ headDim: DIM, window: 3, group: 2.5 })],
  ['DualChunk', () => new DualChunk({ headDim: DIM, chunkSize: 3, localWindow: 1 })],
  ['MdLrpe', () => new MdLrpe({ headDim: DIM })],
  ['MdLrpe, rotary, learned', () => new MdLrpe({ headDim: DIM, heads: HEADS, form: 'rotary', trainable: true })],
  ['Alibi', () => new Alibi({ heads: HEADS })],
  ['T5RelativeBias', () => new T5RelativeBias({ heads: HEADS, rng: rng.fork('t5') })],
  ['SeqPe, input_add', () => seqPe('input_add')],
  ['SeqPe, attn_mul', () => seqPe('attn_mul')],
  ['SeqPe, attn_scalar', () => seqPe('attn_scalar')],
];

beforeAll(() => setBackend('cpu'));

/** Causal attention of tokens `[1, heads, seq, dim]` to themselves, for the last `queries` of them. */
function run(encoding: PositionEncoding, x: Tensor, queries: number, offset = 0): Tensor {
  const length = x.shape[2] as number;
  const all = range(offset, offset + length, 1, 'int32');
  const embedded = encoding.embed?.(all);
  const tokens = embedded === undefined ? x : add(x, embedded);
  const last = <T extends Tensor>(t: T, axis: number): Tensor =>
    slice(
      t as Tensor,
      t.shape.map((_, i) => (i === axis ? length - queries : 0)),
      t.shape.map((size, i) => (i === axis ? queries : size)),
    );
  return attend(last(tokens, 2), tokens, tokens, { encoding, qPositions: last(all, 0), kPositions: all, causal: true });
}

const tokens = (): Tensor => new Rng(1).normal([1, HEADS, SEQ, DIM]);

describe.each(encodings)('%s', (name, make) => {
  it('answers one query over cached keys as it answers all at once', () => {
    const encoding = make();
    const x = tokens();
    const whole = tidy(() => slice(run(encoding, x, SEQ), [0, 0, SEQ - 1, 0], [-1, -1, 1, -1]));
    const one = tidy(() => run(encoding, x, 1));
    for (const [i, value] of one.dataSync().entries()) expect(value).toBeCloseTo(whole.dataSync()[i], 5);
  });

  it('has right gradients of both orders inside attention, and leaks nothing', () => {
    const encoding = make();
    const x = new Rng(2).normal([1, HEADS, 3, DIM], { std: 0.5 });
    gradCheck((x) => tidy(() => run(encoding, x, 3)), [x]);
    expectNoLeak(() => tidy(() => run(encoding, x, 3)));
    expectNoLeak(() => grads((x) => sum(square(run(encoding, x, 3))))([x]));
  });

  // Only distances matter to these.
  it.runIf(!/^(Learned|PositionalScores|SeqPe|Sinusoidal)|dynamic|beyond/.test(name))(
    'does not change when all positions are shifted',
    () => {
      const encoding = make();
      const x = tokens();
      const shifted = tidy(() => run(encoding, x, SEQ, 20));
      const expected = tidy(() => run(encoding, x, SEQ)).dataSync();
      for (const [i, value] of shifted.dataSync().entries()) expect(value).toBeCloseTo(expected[i], 4);
    },
  );
});

describe('two axes', () => {
  it('encode patches inside attention', () => {
    const x = new Rng(3).normal([1, HEADS, 4, DIM], { std: 0.5 });
    const positions = tensor2d(
      [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
      ],
      [4, 2],
      'int32',
    );
    const options = { qPositions: positions, kPositions: positions };
    const rope = new Rope({ headDim: DIM, axes: 2 });
    gradCheck((x) => tidy(() => attend(x, x, x, { ...options, encoding: rope })), [x]);
    expectNoLeak(() => tidy(() => attend(x, x, x, { ...options, encoding: rope })));
    for (const encoding of [
      new Sinusoidal2d({ dim: DIM }),
      new Loope({ grid: [2, 2], dim: DIM, contextBias: false, rng: rng.fork('loope') }),
    ]) {
      const placed = (x: Tensor): Tensor => add(x, encoding.embed(positions));
      gradCheck((x) => tidy(() => attend(placed(x), placed(x), placed(x), options)), [x]);
      expectNoLeak(() => tidy(() => attend(placed(x), placed(x), placed(x), options)));
      // The last patch over cached keys, with two heads of queries to one of keys.
      const [whole, last] = [0, 3].map((from) => {
        const [queries, keys] = [
          slice(placed(x), [0, 0, from, 0], [-1, -1, -1, -1]),
          placed(slice(x, [0, 0, 0, 0], [-1, 1, -1, -1])),
        ];
        return attend(queries, keys, keys, {
          ...options,
          qPositions: slice(positions, [from, 0], [-1, -1]),
          causal: true,
        });
      });
      const expected = slice(whole, [0, 0, 3, 0], [-1, -1, -1, -1]).dataSync();
      for (const [i, value] of last.dataSync().entries()) expect(value).toBeCloseTo(expected[i], 5);
    }
  });
});
