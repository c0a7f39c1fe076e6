import '@ashlar/backend-ort';
import { Loope } from '@ashlar/encodings';
import { Linear, TransformerBlock } from '@ashlar/nn';
import { type AdapterHandle, attach, lofit, lora, type Method, sara, svfit } from '@ashlar/peft';
import {
  abs,
  add,
  crossEntropy,
  disposeMap,
  loadStateDict,
  lossAndGrads,
  Module,
  max,
  mean,
  memory,
  Rng,
  reshape,
  setBackend,
  stateDict,
  sub,
  type Tensor,
  tidy,
  transpose,
} from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';

const rng = new Rng('patch order');
const [WIDTH, GRID, PATCH] = [16, 3, 2];

/** A vision Transformer whose patches are placed along an order that it learns. */
class OrderedViT extends Module<[Tensor]> {
  readonly patch: Linear;
  readonly places: Loope;
  readonly blocks: TransformerBlock[];
  readonly head: Linear;

  constructor(rng: Rng) {
    super();
    this.patch = new Linear(3 * PATCH * PATCH, WIDTH, { rng: rng.fork('patch') });
    this.places = new Loope({
      grid: [GRID, GRID],
      dim: WIDTH,
      patchSize: PATCH,
      channels: [4, 1],
      normalizeCoordinates: true,
      rng: rng.fork('places'),
    });
    this.blocks = [0, 1].map((i) => new TransformerBlock(WIDTH, { heads: 4, layer: i, rng: rng.fork(`block${i}`) }));
    this.head = new Linear(WIDTH, 5, { rng: rng.fork('head') });
  }

  override forward(images: Tensor): Tensor {
    const [batch] = images.shape as [number];
    const cut = transpose(reshape(images, [batch, 3, GRID, PATCH, GRID, PATCH]), [0, 2, 4, 1, 3, 5]);
    const tokens = this.patch.apply(reshape(cut, [batch, GRID * GRID, 3 * PATCH * PATCH]));
    const out = this.blocks.reduce((x, block) => block.apply(x), add(tokens, this.places.apply(images)));
    return this.head.apply(mean(out, 1));
  }
}

const TARGETS = { r: 2, targetModules: 'all-linear' };
const ADAPTERS: Record<string, Method<AdapterHandle>> = {
  LoRA: lora(TARGETS),
  DoRA: lora({ ...TARGETS, useDora: true }),
  SVFit: svfit(TARGETS),
  SaRA: sara({ fraction: 0.1 }),
  LoFiT: lofit({ initStd: 0 }),
};

beforeAll(() => setBackend('ort'));

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

it.each(Object.keys(ADAPTERS))('a ViT along a learned order takes %s', (name) => {
  const before = memory().numTensors;
  const images = rng.fork('images').uniform([3, 3, GRID * PATCH, GRID * PATCH]);
  const labels = rng.fork('labels').integers([3], 0, 5);
  const model = new OrderedViT(rng.fork('model')).eval();
  const plain = model.apply(images);
  const handle = attach(model, ADAPTERS[name], { rng: rng.fork('adapter') });
  const start = model.apply(images);
  expect(distance(start, plain)).toBeLessThan(1e-3);

  const { loss, grads } = lossAndGrads(() => crossEntropy(model.apply(images), labels), handle.parameters());
  const largest = tidy(() => Math.max(...[...grads.values()].map((grad) => max(abs(grad)).dataSync()[0])));
  expect(largest).toBeGreaterThan(1e-6);
  expect(largest).toBeLessThan(Infinity);
  for (const [path, parameter] of handle.parameters()) {
    parameter.assign(
      tidy(() => add(parameter.stored, rng.fork(path).normal(parameter.shape as [number], { std: 0.1 }))),
    );
  }
  const adapted = model.apply(images);
  expect(distance(adapted, plain)).toBeGreaterThan(1e-2);

  handle.mergeAndUnload();
  const merged = model.apply(images);
  expect(distance(merged, adapted)).toBeLessThan(2e-3);
  const again = new OrderedViT(rng.fork('again')).eval();
  loadStateDict(again, stateDict(model));
  const loaded = again.apply(images);
  expect(distance(loaded, merged)).toBe(0);

  disposeMap(grads);
  for (const owner of [images, labels, plain, start, loss, adapted, merged, loaded, model, again]) owner.dispose();
  expect(memory().numTensors).toBe(before);
});
