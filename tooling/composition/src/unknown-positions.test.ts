import '@ashlar/backend-ort';
import { Alibi, MdLrpe, Rope, Sinusoidal } from '@ashlar/encodings';
import { jit, memory, Rng, setBackend, type Tensor, tensor1d } from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';

beforeAll(() => setBackend('ort'));

const [sinusoidal, alibi] = [new Sinusoidal({ dim: 8 }), new Alibi({ heads: 2 })];
const [rope, lrpe] = [new Rope({ headDim: 8 }), new MdLrpe({ headDim: 8 })];
const x = new Rng(0).normal([1, 2, 2, 8]);

it.each<[string, (positions: Tensor) => Tensor]>([
  ['Sinusoidal', (positions) => sinusoidal.embed(positions)],
  ['Alibi', (positions) => alibi.bias(positions, positions)],
  ['Rope', (positions) => rope.apply(x, positions)],
  ['MdLrpe', (positions) => lrpe.apply(x, positions)],
])('%s takes positions that are not known while it is traced', (_, encode) => {
  const traced = jit(encode);
  const [first, second] = [tensor1d([0, 1]), tensor1d([0.5, 7])];
  traced(first).dispose();
  encode(first).dispose();
  const before = memory().numTensors;
  const out = traced(second);
  const expected = encode(second);
  expect(traced.traces).toBe(1);
  for (const [i, value] of out.dataSync().entries()) expect(value).toBeCloseTo(expected.dataSync()[i], 5);
  out.dispose();
  expected.dispose();
  expect(memory().numTensors).toBe(before);
});
