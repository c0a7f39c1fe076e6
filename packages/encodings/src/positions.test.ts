import '@tensorflow/tfjs-backend-cpu';
import {
  type AshlarError,
  ConfigError,
  type PositionEncoding,
  Rng,
  ShapeError,
  setBackend,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Alibi,
  Clex,
  Dpe,
  LearnedAbsolute,
  Loope,
  MdLrpe,
  PositionalScores,
  Rope,
  SeqPe,
  Sinusoidal,
  Sinusoidal2d,
  T5RelativeBias,
} from './index.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(0);
const [HEADS, DIM, SEQ] = [2, 8, 3];
const seqPe = (axes: number): SeqPe =>
  new SeqPe({ mode: 'input_add', axes, encoder: { dim: DIM, heads: 2, layers: 1 }, maxPosition: 100, rng }).eval();

const ENCODINGS: readonly [name: string, axes: number, encoding: PositionEncoding][] = [
  ['Sinusoidal', 1, new Sinusoidal({ dim: DIM })],
  ['Sinusoidal2d', 2, new Sinusoidal2d({ dim: DIM })],
  ['LearnedAbsolute', 1, new LearnedAbsolute({ maxPositions: 8, dim: DIM, rng })],
  ['Rope', 1, new Rope({ headDim: DIM })],
  ['Rope, axial', 2, new Rope({ headDim: DIM, axes: 2 })],
  ['Rope, dynamic', 1, new Rope({ headDim: DIM, maxPositions: 2, scaling: { rope_type: 'dynamic', factor: 2 } })],
  ['Alibi', 1, new Alibi({ heads: HEADS })],
  ['T5RelativeBias', 1, new T5RelativeBias({ heads: HEADS, rng })],
  ['PositionalScores', 1, new PositionalScores({ maxPositions: 8, heads: HEADS, dim: 4, layers: 1, rng })],
  ['Clex', 1, new Clex({ headDim: DIM, originalLength: 8, stepSize: 0.5, rng })],
  ['Dpe', 1, new Dpe({ headDim: DIM, window: 4, scales: [2, 2] })],
  ['MdLrpe', 1, new MdLrpe({ headDim: DIM })],
  ['MdLrpe, 2-D', 2, new MdLrpe({ headDim: DIM, axes: 2 })],
  ['MdLrpe, cells', 2, new MdLrpe({ headDim: DIM, gridShape: [2, 3] })],
  ['Loope', 2, new Loope({ grid: [2, 3], dim: DIM, contextBias: false, rng })],
  ['SeqPe', 1, seqPe(1)],
  ['SeqPe, 2-D', 2, seqPe(2)],
];

function use(encoding: PositionEncoding, positions: Tensor): void {
  tidy(() => {
    const x = rng.normal([1, HEADS, SEQ, DIM]);
    encoding.embed?.(positions);
    encoding.rotate?.(x, x, positions, positions, { layer: 0 });
    encoding.bias?.(positions, positions, { layer: 0 });
    encoding.scores?.(x, x, positions, positions, { layer: 0 });
  });
}

describe.each(ENCODINGS)('%s', (_, axes, encoding) => {
  const positions = (values: readonly unknown[], dtype: 'int32' | 'float32' | 'bool' | 'string'): Tensor =>
    tensor(
      values.flatMap((value) => (axes === 1 ? [value] : [values[0], value])) as number[],
      axes === 1 ? [SEQ] : [SEQ, axes],
      dtype,
    );

  it.each<[string, () => unknown, typeof AshlarError]>([
    ['NaN', () => positions([0, Number.NaN, 1], 'float32'), ConfigError],
    ['infinite', () => positions([0, Number.POSITIVE_INFINITY, 1], 'float32'), ConfigError],
    ['bool', () => positions([false, true, true], 'bool'), ConfigError],
    ['string', () => positions(['0', '1', '2'], 'string'), ConfigError],
    ['no', () => undefined, ShapeError],
    ['untyped', () => [0, 1, 2], ShapeError],
    ['shapeless', () => zeros([SEQ, 1, 1], 'int32'), ShapeError],
  ])('refuses %s positions', (_, make, kind) => {
    use(encoding, positions([0, 1, 2], 'int32'));
    use(encoding, positions([0, 1, 2], 'float32'));
    expect(() => use(encoding, make() as Tensor)).toThrow(kind);
  });
});

it('names an encoding that takes as many axes', () => {
  const off = tensor([0, 0.5], [1, 2]);
  const below = tensor([0, -1], [1, 2], 'int32');
  for (const encoding of [new Loope({ grid: [2, 3], dim: DIM, contextBias: false, rng }), seqPe(2)]) {
    expect(() => use(encoding, off)).toThrow(/round them, or use Rope or MdLrpe with axes: 2/);
    expect(() => use(encoding, below)).toThrow(/shift them, or use Rope or MdLrpe with axes: 2/);
  }
  expect(() => use(seqPe(1), tensor1d([0.5]))).toThrow(/use Sinusoidal, Rope or Alibi/);
});

it('says that there are none', () => {
  expect(() => seqPe(1).embed?.(zeros([0], 'int32'))).toThrow(/positions are \[0\]; give at least one/);
  expect(() => seqPe(2).embed?.(zeros([0, 2], 'int32'))).toThrow(ShapeError);
});

it('keeps coordinates in the grid of MdLrpe', () => {
  const encoding = new MdLrpe({ headDim: DIM, gridShape: [2, 3] });
  const at = (row: number, column: number): Tensor =>
    encoding.apply(rng.normal([1, 1, 1, DIM]), tensor([row, column], [1, 2], 'int32'));
  expect(at(1, 2).shape).toEqual([1, 1, 1, 2 * DIM]);
  expect(() => at(2, 0)).toThrow(/coordinate 2 \(index 0\) is outside the grid \[2,3\]/);
  expect(() => at(0, 3)).toThrow(/coordinate 3 \(index 1\)/);
  expect(() => at(-1, 0)).toThrow(ConfigError);
});
