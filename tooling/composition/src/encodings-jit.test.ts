import '@ashlar/backend-ort';
import {
  Alibi,
  Clex,
  Dpe,
  DualChunk,
  LearnedAbsolute,
  Loope,
  MdLrpe,
  PositionalScores,
  ReRope,
  Rope,
  SelfExtend,
  SeqPe,
  Sinusoidal,
  T5RelativeBias,
} from '@ashlar/encodings';
import { type CausalLM, createModel } from '@ashlar/models';
import { normal_ } from '@ashlar/nn';
import { Optimizer, sgd } from '@ashlar/optim';
import {
  disposeMap,
  jit,
  lossAndGrads,
  mean,
  memory,
  moduleState,
  type PositionEncoding,
  Rng,
  setBackend,
  square,
  stateDict,
  sub,
  type Tensor,
} from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';

const CONFIG = {
  model_type: 'llama',
  vocab_size: 17,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 32,
  initializer_range: 0.3,
};

beforeAll(() => setBackend('ort'));

it.each<[string, PositionEncoding]>([
  ['Sinusoidal', new Sinusoidal({ dim: 16 })],
  ['LearnedAbsolute', new LearnedAbsolute({ maxPositions: 12, dim: 16, rng: new Rng('learned') })],
  ['Alibi', new Alibi({ heads: 2 })],
  ['T5RelativeBias', new T5RelativeBias({ heads: 2, rng: new Rng('t5') })],
  ['Rope, interleaved and partial', new Rope({ headDim: 8, layout: 'interleaved', fraction: 0.5 })],
  ['Rope, yarn', new Rope({ headDim: 8, maxPositions: 6, scaling: { rope_type: 'yarn', factor: 2 } })],
  ['Clex', new Clex({ headDim: 8, originalLength: 6, stepSize: 0.25, rng: new Rng('clex') })],
  ['Dpe', new Dpe({ headDim: 8, window: 4, scales: [2, 4] })],
  ['SelfExtend', new SelfExtend({ headDim: 8, window: 4, group: 2 })],
  ['ReRope', new ReRope({ headDim: 8, window: 4, trainedLength: 6 })],
  ['DualChunk', new DualChunk({ headDim: 8, chunkSize: 6, localWindow: 2 })],
  ['MdLrpe', new MdLrpe({ headDim: 8 })],
  ['PositionalScores', new PositionalScores({ maxPositions: 12, heads: 2, dim: 4, layers: 2, rng: new Rng('tables') })],
  [
    'SeqPe, attn_mul',
    new SeqPe({
      mode: 'attn_mul',
      encoder: { dim: 16, heads: 2 },
      heads: 2,
      kvHeads: 1,
      layers: 2,
      init: normal_({ std: 0.3 }),
      rng: new Rng('seqpe'),
    }),
  ],
  [
    'SeqPe, attn_scalar',
    new SeqPe({
      mode: 'attn_scalar',
      encoder: { dim: 16, heads: 2 },
      heads: 2,
      headDim: 8,
      init: normal_({ std: 0.3 }),
      rng: new Rng('seqpe'),
    }),
  ],
])('%s is the same under jit', (_, encoding) => {
  const rng = new Rng('encodings');
  const model = createModel(CONFIG, { rng: rng.fork('model'), encoding }).eval() as CausalLM;
  const forward = jit((ids: Tensor) => model.apply(ids) as Tensor, { state: [moduleState(model)] });
  for (const seed of [1, 2]) {
    const ids = rng.fork(seed).integers([2, 12], 0, 17);
    const expected = (model.apply(ids) as Tensor).dataSync();
    for (const [i, value] of forward(ids).dataSync().entries()) expect(value).toBeCloseTo(expected[i], 4);
  }
  expect(forward.traces).toBe(1);
  forward.dispose();
});

it('Loope trains the same under jit, running statistics included, and places patches the same', () => {
  const rng = new Rng('loope');
  const trained = (useJit: boolean): number[][] => {
    const before = memory().numTensors;
    const loope = new Loope({ grid: [3, 4], dim: 8, patchSize: 2, channels: [6, 4, 1], rng: rng.fork('model') });
    const optimizer = new Optimizer(loope.trainableParameters(), sgd({ learningRate: 0.1 }));
    const eager = (images: Tensor, target: Tensor): void => {
      const { loss, grads } = lossAndGrads(() => mean(square(sub(loope.apply(images), target))), optimizer.parameters);
      optimizer.step(grads);
      disposeMap(grads);
      loss.dispose();
    };
    const step = jit(eager, { state: [moduleState(loope), optimizer] });
    for (let i = 0; i < 4; i++) {
      const [images, target] = [rng.fork(i).uniform([5, 3, 6, 8]), rng.fork(`target ${i}`).uniform([5, 12, 8])];
      (useJit ? step : eager)(images, target);
      images.dispose();
      target.dispose();
    }
    expect(step.traces).toBe(useJit ? 1 : 0);
    step.dispose();
    const place = jit((images: Tensor) => loope.positions(images), { state: [moduleState(loope.eval())] });
    const images = rng.fork('test').uniform([2, 3, 6, 8]);
    const placed = useJit ? place(images) : loope.positions(images);
    const values = [...[...stateDict(loope).values()], placed].map((tensor) => Array.from(tensor.dataSync()));
    place.dispose();
    for (const owner of [images, placed, optimizer, loope]) owner.dispose();
    expect(memory().numTensors).toBe(before);
    return values;
  };
  const [eager, jitted] = [trained(false), trained(true)];
  expect(jitted.map((values) => values.length)).toEqual(eager.map((values) => values.length));
  const expected = eager.flat();
  for (const [i, value] of jitted.flat().entries()) expect(value).toBeCloseTo(expected[i], 4);
});
