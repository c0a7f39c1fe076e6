import '@ashlar/backend-ort';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Loope, MdLrpe, Rope, SeqPe, type SeqPeOptions, Sinusoidal2d } from '@ashlar/encodings';
import { LayerNorm, Linear, normal_, TransformerBlock } from '@ashlar/nn';
import { type AdapterHandle, attach, loadAdapter, lora, type Method, sara, svfit } from '@ashlar/peft';
import {
  abs,
  add,
  disposeMap,
  jit,
  lossAndGrads,
  Module,
  max,
  mean,
  memory,
  moduleState,
  type PositionEncoding,
  Rng,
  reshape,
  setBackend,
  square,
  sub,
  type Tensor,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const [DIM, HEADS, PATCH] = [16, 2, 6];
const HEAD_DIM = DIM / HEADS;
const rng = new Rng('patches');

/** Rows and columns of a 2 x 3 picture, or cells of a 2 x 3 x 2 volume. */
const GRIDS = { 2: [2, 3], 3: [2, 3, 2] } as const;

function positionsOf(axes: 2 | 3): Tensor {
  const cells = GRIDS[axes].reduce<number[][]>(
    (all, size) => all.flatMap((cell) => Array.from({ length: size }, (_, i) => [...cell, i])),
    [[]],
  );
  return tensor2d(cells, [cells.length, axes], 'int32');
}

/** A Transformer on patches, `[batch, patches, 6]` to `[batch, 4]`. */
class PatchModel extends Module<[Tensor]> {
  readonly patch = new Linear(PATCH, DIM, { rng: rng.fork('patch') });
  readonly encoding: PositionEncoding;
  readonly blocks: TransformerBlock[];
  readonly norm = new LayerNorm(DIM);
  readonly head = new Linear(DIM, 4, { rng: rng.fork('head') });
  readonly #axes: 2 | 3;

  constructor(encoding: PositionEncoding, axes: 2 | 3) {
    super();
    this.encoding = encoding;
    this.#axes = axes;
    const options = { heads: HEADS, kvHeads: 1, hidden: 24, encoding };
    this.blocks = [0, 1].map((layer) => new TransformerBlock(DIM, { ...options, layer, rng: rng.fork(layer) }));
  }

  override forward(patches: Tensor): Tensor {
    const positions = positionsOf(this.#axes);
    const tokens = this.patch.apply(patches);
    const embedded = this.encoding.embed?.(positions);
    const placed = embedded === undefined ? tokens : add(tokens, embedded);
    const out = this.blocks.reduce((x, block) => block.apply(x, { positions }), placed);
    return this.head.apply(mean(this.norm.apply(out), 1));
  }
}

const seqPe = (mode: SeqPeOptions['mode'], axes: number): SeqPe =>
  new SeqPe({
    mode,
    axes,
    encoder: { dim: DIM, heads: HEADS },
    maxPosition: 100,
    heads: HEADS,
    headDim: HEAD_DIM,
    kvHeads: 1,
    layers: 2,
    init: normal_({ std: 0.3 }),
    rng: rng.fork('seqpe'),
  });

const ENCODINGS: [string, 2 | 3, () => PositionEncoding][] = [
  ['sinusoidal 2-D', 2, () => new Sinusoidal2d({ dim: DIM })],
  ['LOOPE', 2, () => new Loope({ grid: GRIDS[2], dim: DIM, patchSize: 2, rng: rng.fork('loope') })],
  ['RoPE', 2, () => new Rope({ headDim: HEAD_DIM, axes: 2 })],
  ['RoPE, 3 axes', 3, () => new Rope({ headDim: HEAD_DIM, axes: 3, fraction: 0.75 })],
  ['MD-LRPE', 2, () => new MdLrpe({ headDim: HEAD_DIM, axes: 2 })],
  ['MD-LRPE, 3 axes', 3, () => new MdLrpe({ headDim: HEAD_DIM, axes: 3 })],
  ['SeqPE, added', 2, () => seqPe('input_add', 2)],
  ['SeqPE, attn_mul', 2, () => seqPe('attn_mul', 2)],
  ['SeqPE, attn_scalar, 3 axes', 3, () => seqPe('attn_scalar', 3)],
];

const ADAPTERS: Record<string, Method<AdapterHandle>> = {
  LoRA: lora({ r: 2, targetModules: 'all-linear' }),
  DoRA: lora({ r: 2, targetModules: 'all-linear', useDora: true }),
  SVFit: svfit({ r: 2, targetModules: 'all-linear' }),
  SaRA: sara({ fraction: 0.1 }),
};

let folder: string;
beforeAll(async () => {
  await setBackend('ort');
  folder = await mkdtemp(join(tmpdir(), 'patches-'));
});
afterAll(() => rm(folder, { recursive: true }));

const distance = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);

describe('patches of pictures and volumes', () => {
  it.each(
    ENCODINGS.flatMap(([encoding, axes, make]) =>
      Object.keys(ADAPTERS).map((adapter) => ({ encoding, axes, make, adapter })),
    ),
  )('$encoding with $adapter', async ({ encoding, axes, make, adapter }) => {
    const before = memory().numTensors;
    const model = new PatchModel(make(), axes).eval();
    const patches = rng.fork('x').normal([2, GRIDS[axes].reduce<number>((count, size) => count * size, 1), PATCH]);
    const plain = model.apply(patches);
    const handle = attach(model, ADAPTERS[adapter], { rng: rng.fork('adapter') });
    const start = model.apply(patches);
    expect(distance(start, plain)).toBeLessThan(1e-3);

    const { loss, grads } = lossAndGrads(() => mean(square(model.apply(patches))), handle.parameters());
    expect(tidy(() => Math.max(...[...grads.values()].map((grad) => max(abs(grad)).dataSync()[0])))).toBeGreaterThan(
      1e-6,
    );
    for (const [name, parameter] of handle.parameters()) {
      const noise = (): Tensor =>
        reshape(rng.fork(name).normal([parameter.stored.size], { std: 0.1 }), parameter.shape);
      parameter.assign(tidy(() => add(parameter.stored, noise())));
    }
    const adapted = model.apply(patches);
    expect(distance(adapted, plain)).toBeGreaterThan(1e-3);

    const pass = jit((x: Tensor) => model.apply(x), { state: [moduleState(model)] });
    const traced = pass(patches);
    expect(distance(traced, adapted)).toBeLessThan(1e-4);
    pass.dispose();

    handle.merge({ safe: true });
    const merged = model.apply(patches);
    expect(distance(merged, adapted)).toBeLessThan(2e-3);
    handle.unmerge();
    const dir = join(folder, `${encoding}-${adapter}`);
    await handle.save(dir);
    handle.unload();
    const unloaded = model.apply(patches);
    expect(distance(unloaded, plain)).toBeLessThan(2e-3);
    const again = await loadAdapter(model, dir);
    const loaded = model.apply(patches);
    expect(distance(loaded, adapted)).toBeLessThan(2e-3);
    again.unload();

    for (const own of [patches, plain, start, loss, adapted, traced, merged, unloaded, loaded]) own.dispose();
    disposeMap(grads);
    model.dispose();
    expect(memory().numTensors).toBe(before);
  });
});
