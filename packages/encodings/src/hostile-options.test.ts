import '@tensorflow/tfjs-backend-cpu';
import {
  AshlarError,
  ConfigError,
  ones,
  Rng,
  ShapeError,
  setBackend,
  type Tensor,
  tensor1d,
  zeros,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Alibi,
  alibiSlopes,
  bidirectionalTargets,
  ColumnEmbedding,
  contrastiveBatch,
  contrastivePositionLoss,
  digitAttentionMask,
  FourierFeatures,
  gilbertOrder,
  harmonicEmbedding,
  hilbertOrder,
  LearnedAbsolute,
  Loope,
  MdLrpe,
  MdTpe,
  meanReciprocalRank,
  nearestCandidate,
  PositionalScores,
  PositionInjection,
  pixelCoordinates,
  positionDigits,
  positionForest,
  positionGrid,
  quantizeCoordinates,
  rasterOrder,
  readTriplane,
  SeqPe,
  SequentialPositionEncoder,
  Sinusoidal,
  Sinusoidal2d,
  T5RelativeBias,
  Tpe,
  t5Bucket,
  transferBatch,
  visualPositions,
  windowStarts,
  zigzagOrder,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(0);
type Options = Record<string, unknown>;
/** Each class with right options: all that it has. */
const CLASSES: readonly [new (options: never) => object, Options][] = [
  [Alibi, { heads: 4, slopes: [1, 2, 3, 4], symmetric: false }],
  [ColumnEmbedding, { maxColumns: 4, dim: 8 }],
  [FourierFeatures, { axes: 2, features: 4, std: 1, rng }],
  [LearnedAbsolute, { maxPositions: 8, dim: 4, std: 0.02, rng }],
  [
    Loope,
    {
      grid: [2, 2],
      dim: 8,
      order: 'gilbert',
      contextBias: true,
      patchSize: 2,
      channels: [2, 1],
      activation: 'gelu',
      base: 10000,
      layout: 'halves',
      rng,
    },
  ],
  [MdLrpe, { headDim: 8, heads: 2, axes: 2, gridShape: [2, 2], extraTokens: 0, form: 'cosine', base: 10000 }],
  [MdTpe, { dim: 8, heads: 2, decay: 'sigmoid', axes: [-2], rng }],
  [Tpe, { dim: 8, heads: 2, decay: 'sigmoid', rng }],
  [PositionInjection, { mode: 'attn_mul', heads: 2, kvHeads: 1, headDim: 4, peDim: 8, scalarScale: 1, rng }],
  [PositionalScores, { maxPositions: 8, heads: 2, dim: 4, layers: 2, rng }],
  [
    SeqPe,
    {
      mode: 'attn_scalar',
      encoder: { dim: 8, heads: 2 },
      axes: 1,
      maxPosition: 100,
      maxDigits: 3,
      heads: 2,
      kvHeads: 2,
      headDim: 4,
      layers: 1,
      scalarScale: 1,
      training: { window: 8 },
      rng,
    },
  ],
  [SequentialPositionEncoder, { dim: 8, heads: 2, maxDigits: 3, axes: 1, base: 10, temperature: 1, rng }],
  [Sinusoidal, { dim: 8, base: 10000, layout: 'halves' }],
  [Sinusoidal2d, { dim: 8, base: 10000, layout: 'halves', first: 'row' }],
  [T5RelativeBias, { heads: 4, buckets: 32, maxDistance: 128, std: 0.02, rng }],
];
/** Never right for an option above, with the switches it names. */
const SWITCHES = new Set(['symmetric', 'contextBias']);
const HOSTILE = [null, -1, Number.NaN, Number.POSITIVE_INFINITY, 'abc', {}, [Number.NaN], [0.5, 2], ['a', 'b']];
const make = (Class: new (options: never) => object, options: unknown): object => new Class(options as never);

describe.each(CLASSES.map(([Class, options]) => [Class.name, Class, options] as const))('%s', (_, Class, options) => {
  it('takes the right options and says so without any', () => {
    expect(make(Class, options)).toBeInstanceOf(Class);
    for (const none of [undefined, null, 5]) {
      expect(() => make(Class, none)).toThrow(ConfigError);
      expect(() => make(Class, none)).toThrow(/options are .+; they must be an object/);
    }
    expect(() => make(Class, {})).toThrow(AshlarError);
  });

  it.each(Object.keys(options).filter((name) => !SWITCHES.has(name)))('refuses nonsense for %s', (name) => {
    for (const value of HOSTILE) {
      expect(() => make(Class, { ...options, [name]: value }), `${name}: ${String(value)}`).toThrow(AshlarError);
    }
  });
});

const x = (...shape: number[]): Tensor => rng.normal(shape as [number, number]);
const space = { axes: 1, extent: 100 };
const HUGE = /at most 16777216 \(2\^24\)|<= 16777216/;
it.each<[string, () => unknown, RegExp]>([
  ['Alibi', () => new Alibi({ heads: 1e9 }), HUGE],
  ['alibiSlopes', () => alibiSlopes(1e9), HUGE],
  ['Loope', () => new Loope({ grid: [1e5, 1e5], dim: 8, rng }), HUGE],
  ['positionGrid', () => positionGrid([1e5, 1e5]), HUGE],
  ['pixelCoordinates', () => pixelCoordinates(1e5, 1e5), HUGE],
  ['gilbertOrder', () => gilbertOrder(1e5, 1e5), HUGE],
  ['hilbertOrder', () => hilbertOrder(2 ** 20, 2 ** 20), HUGE],
  ['rasterOrder', () => rasterOrder(1e5, 1e5), HUGE],
  ['zigzagOrder', () => zigzagOrder(1e5, 1e5), HUGE],
  ['visualPositions', () => visualPositions({ textBefore: 1e9, grids: [{ rows: 1, columns: 1 }], textAfter: 0 }), HUGE],
  [
    'visualPositions, grid',
    () => visualPositions({ textBefore: 0, grids: [{ rows: 1e5, columns: 1e5 }], textAfter: 0 }),
    HUGE,
  ],
  ['contrastiveBatch', () => contrastiveBatch({ axes: 1, extent: 1e9 }, { pivots: 1e5, candidates: 1e5 }, rng), HUGE],
  ['windowStarts', () => windowStarts({ axes: 1, extent: 1e9 }, [5], 1e9, rng), HUGE],
])('%s refuses sizes that would exhaust memory', (_, call, problem) => {
  expect(call).toThrow(ConfigError);
  expect(call).toThrow(problem);
});

it.each<[string, () => unknown, typeof AshlarError, RegExp]>([
  ['t5Bucket', () => t5Bucket(-5, { buckets: 0 }), ConfigError, /buckets is 0/],
  ['t5Bucket', () => t5Bucket(-5, { buckets: 1 }), ConfigError, /buckets is 1/],
  ['t5Bucket', () => t5Bucket(-5, { buckets: -4 }), ConfigError, /buckets is -4/],
  ['t5Bucket', () => t5Bucket(-5, { buckets: 3, bidirectional: true }), ConfigError, /buckets is 3/],
  ['t5Bucket', () => t5Bucket(-50, { maxDistance: 8 }), ConfigError, /maxDistance is 8/],
  ['t5Bucket', () => t5Bucket(Number.NaN), ConfigError, /distance is NaN/],
  ['t5Bucket', () => t5Bucket(-1.5), ConfigError, /distance is -1.5/],
  [
    'readTriplane',
    () => {
      const plane = x(1, 2, 3, 3);
      return readTriplane({ xy: plane, yz: plane, xz: plane }, x(5, 3), { combine: 'mul' as 'add' });
    },
    ConfigError,
    /combine is "mul"/,
  ],
  [
    'readTriplane',
    () => readTriplane({ xy: x(1, 2, 3, 3), yz: x(1, 3, 3, 3), xz: x(1, 2, 3, 3) }, x(5, 3)),
    ShapeError,
    /one batch and as many channels/,
  ],
  ['readTriplane', () => readTriplane({} as never, x(5, 3)), ShapeError, /planes xy, yz and xz/],
  ['digitAttentionMask', () => digitAttentionMask(ones([2, 2]), { direction: 'x' as 'causal' }), ConfigError, /"x"/],
  ['digitAttentionMask', () => digitAttentionMask(ones([2])), ShapeError, /\[seq, digits\], not \[2\]/],
  ['harmonicEmbedding', () => harmonicEmbedding(ones([2, 2]), 1000), ConfigError, /octaves is 1000/],
  ['contrastiveBatch', () => contrastiveBatch({ ...space, base: 1 }, {}, rng), ConfigError, /base is 1/],
  [
    'contrastiveBatch',
    () => contrastiveBatch({ axes: 1 } as typeof space, {}, rng),
    ConfigError,
    /extent is undefined/,
  ],
  ['contrastiveBatch', () => contrastiveBatch(undefined as never, {}, rng), ConfigError, /space: the options/],
  ['transferBatch', () => transferBatch(space, 5 as never, {}, rng), ConfigError, /window is 5/],
  ['nearestCandidate', () => nearestCandidate([1], []), ShapeError, /at least one candidate/],
  ['nearestCandidate', () => nearestCandidate([1, 2], [[1]]), ShapeError, /all of 2 axes/],
  [
    'contrastivePositionLoss',
    () => contrastivePositionLoss(x(2, 4), x(6, 4), tensor1d([7, 0], 'int32')),
    ConfigError,
    /label is 7; it must be the index of one of 3/,
  ],
  [
    'contrastivePositionLoss',
    () => contrastivePositionLoss(x(2, 4), x(6, 4), zeros([2, 2], 'int32')),
    ShapeError,
    /labels \[pivots\]/,
  ],
  [
    'visualPositions',
    () => visualPositions({ textBefore: 0, grids: undefined as never, textAfter: 0 }),
    ConfigError,
    /grids is undefined/,
  ],
  [
    'visualPositions',
    () => visualPositions({ textBefore: 0, grids: [null as never], textAfter: 0 }),
    ConfigError,
    /grids\[0\]/,
  ],
  ['positionForest', () => positionForest('x^{2}' as never), ConfigError, /"x\^\{2\}"; it must be a list of tokens/],
  ['positionForest', () => positionForest([null as never]), ConfigError, /list of tokens/],
  ['bidirectionalTargets', () => bidirectionalTargets([['x']], {} as never), ConfigError, /ids is undefined/],
  ['bidirectionalTargets', () => bidirectionalTargets(['x' as never], { ids: new Map() }), ConfigError, /Formula 0/],
  ['meanReciprocalRank', () => meanReciprocalRank([{ a: 1 }, null as never]), ConfigError, /setting 1/],
  [
    'quantizeCoordinates',
    () => quantizeCoordinates(ones([2, 2]), undefined as never),
    ConfigError,
    /must be an object/,
  ],
  ['positionDigits', () => positionDigits(ones([1]), { maxDigits: 2, padValue: Number.NaN }), ConfigError, /padValue/],
  ['positionGrid', () => positionGrid([-1, 2]), ConfigError, /extents\[0\] is -1/],
  ['positionGrid', () => positionGrid([1.5, 2]), ConfigError, /extents\[0\] is 1.5/],
  [
    'ColumnEmbedding',
    () => new ColumnEmbedding({ maxColumns: 4, dim: 8 }).apply(ones([3]) as never),
    ConfigError,
    /list/,
  ],
  ['MdTpe', () => new MdTpe({ dim: 8, heads: 2, rng }).apply(zeros([1, 0, 8])), ShapeError, /no tokens in \[1,0,8\]/],
  ['Tpe', () => new Tpe({ dim: 8, heads: 2, rng }).apply(zeros([1, 0, 8])), ShapeError, /n from 1/],
])('%s refuses what it cannot compute, case %#', (_, call, kind, problem) => {
  expect(call).toThrow(kind);
  expect(call).toThrow(problem);
});
