import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import { Alibi, MdLrpe, Nope, Rope, Sinusoidal } from '@ashlar/encodings';
import { xavierUniform_ } from '@ashlar/nn';
import {
  abs,
  ConfigError,
  concat,
  gather,
  jit,
  lossAndGrads,
  max,
  moduleState,
  Rng,
  ShapeError,
  setBackend,
  slice,
  square,
  stateDict,
  sub,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import { LightNetAttention, type LightNetAttentionOptions, LightNetBlock } from './index.ts';

const [DIM, HEADS] = [8, 2];
const rng = new Rng('lightnet');
const init = xavierUniform_();
const layer = (options: Partial<LightNetAttentionOptions> = {}): LightNetAttention =>
  new LightNetAttention({ dim: DIM, heads: HEADS, init, outInit: init, rng: rng.fork('layer'), ...options });
const input = (length: number, batch = 2): Tensor => rng.fork('x').normal([batch, length, DIM]);
const tokens = (x: Tensor, from: number, count = -1): Tensor => slice(x, [0, from, 0], [-1, count, -1]);
const furthest = (a: Tensor, b: Tensor): number => tidy(() => max(abs(sub(a, b))).dataSync()[0]);
const cosine = (): MdLrpe => new MdLrpe({ headDim: DIM / HEADS });

const causalLayers: [string, Partial<LightNetAttentionOptions>][] = [
  ['per channel', {}],
  ['no sink', { sink: false }],
  ['cosine MD-LRPE', { encoding: cosine() }],
  ['gate after the norm', { gate: 'post' }],
  ['no gate', { gate: 'none' }],
  ['scalar decay', { scalarDecay: true }],
  ['scalar decay and its complement', { scalarDecay: 'complement', sink: false }],
  ['scalar decay and Rope', { scalarDecay: true, encoding: new Rope({ headDim: DIM / HEADS }) }],
];

beforeEach(() => setBackend('cpu'));

describe.each(causalLayers)('causal, %s', (name, options) => {
  it('decodes in steps of any size what it computes at once, on the ort backend under jit too', async () => {
    const model = layer(options);
    const x = input(70);
    const whole = model.apply(x);
    for (const sizes of [
      [...Array(6).fill(1), 64],
      [65, 5],
    ]) {
      const outputs: Tensor[] = [];
      let state: ReturnType<typeof model.step>['state'] | undefined;
      let from = 0;
      for (const size of sizes) {
        const next = model.step(tokens(x, from, size), state);
        outputs.push(next.output);
        state = next.state;
        from += size;
      }
      expect(state?.position.dataSync()[0]).toBe(70);
      expect(furthest(concat(outputs, 1), whole)).toBeLessThan(1e-5);
    }
    const expected = whole.dataSync();
    await setBackend('ort');
    const run = jit((x: Tensor): Tensor => model.apply(x), { state: [moduleState(model)] });
    const other = run(x).dataSync();
    expect(Math.max(...expected.map((value, i) => Math.abs(value - other[i])))).toBeLessThan(2e-5);
    run.dispose();
  });

  it('does not look ahead, and skips padding wherever it is', () => {
    const model = layer(options);
    const x = input(6);
    const y = model.apply(x);
    expect(furthest(model.apply(tokens(x, 0, 4)), tokens(y, 0, 4))).toBeLessThan(1e-6);
    const mask = tensor2d([
      [0, 0, 1, 1, 1, 1],
      [0, 0, 1, 1, 1, 1],
    ]);
    const positions = tensor1d([0, 0, 0, 1, 2, 3], 'int32');
    const padded = tokens(model.apply(x, { mask, positions }), 2);
    expect(furthest(padded, model.apply(tokens(x, 2)))).toBeLessThan(1e-5);
  });

  it('has right gradients and leaks nothing', () => {
    const model = layer(options);
    gradCheck((x) => model.apply(x), [input(2, 1)], { order: /MD-LRPE|complement/.test(name) ? 2 : 1 });
    const x = input(5);
    expectNoLeak(() => model.apply(x));
    expectNoLeak(() => {
      const { output, state } = model.step(x);
      return [output, state.s, state.logsum, state.position];
    });
    const parameters = model.trainableParameters();
    const { grads } = lossAndGrads(() => sum(square(model.apply(x))), parameters);
    expect([...grads.keys()]).toEqual([...parameters.keys()]);
    for (const gradient of grads.values()) expect(max(abs(gradient)).dataSync()[0]).toBeGreaterThan(0);
  });
});

describe('one scan', () => {
  const whole = (options: Partial<LightNetAttentionOptions> = {}): LightNetAttention =>
    layer({ causal: false, ...options });

  it('is what the causal layer without a sink arrives at', () => {
    for (const encoding of [undefined, cosine()]) {
      const x = input(70);
      const [last, all] = [layer({ sink: false, encoding }), whole({ encoding })].map((model) =>
        tokens(model.apply(x), 69),
      );
      expect(furthest(all, last)).toBeLessThan(1e-5);
    }
  });

  it('does not care for the order of the tokens unless an encoding tells it', () => {
    const x = input(6);
    const order = tensor1d([3, 1, 5, 0, 2, 4], 'int32');
    const moved = (model: LightNetAttention): number =>
      furthest(model.apply(gather(x, order, 1)), gather(model.apply(x), order, 1));
    expect(moved(whole())).toBeLessThan(1e-6);
    const grid = { headDim: DIM / HEADS, gridShape: [2, 3] };
    expect(moved(whole({ encoding: new MdLrpe(grid) }))).toBeGreaterThan(0.01);
    expect(moved(whole({ encoding: new MdLrpe({ ...grid, axes: 2, form: 'rotary' }) }))).toBeGreaterThan(0.01);
  });

  it('skips padding; where all is padding it gives numbers', () => {
    const model = whole();
    const x = input(5);
    const mask = tensor2d([
      [1, 1, 1, 0, 0],
      [0, 0, 0, 0, 0],
    ]);
    const y = model.apply(x, { mask });
    const first = slice(x, [0, 0, 0], [1, 3, -1]);
    expect(furthest(slice(y, [0, 0, 0], [1, 3, -1]), model.apply(first))).toBeLessThan(1e-5);
    expect(max(abs(slice(y, [1, 0, 0]))).dataSync()[0]).toBe(0);
  });

  it('has right gradients of both orders and leaks nothing', () => {
    const model = whole({ encoding: cosine() });
    gradCheck((x) => model.apply(x), [input(2, 1)]);
    const x = input(5);
    expectNoLeak(() => model.apply(x));
  });
});

describe('LightNetAttention', () => {
  it("has the author's parameters, small and zero; the same of the same seed", () => {
    const model = new LightNetAttention({ dim: DIM, heads: HEADS, rng: new Rng(1) });
    const state = stateDict(model);
    expect(Object.fromEntries([...state].map(([name, { shape }]) => [name, shape]))).toEqual({
      'q_proj.weight': [8, 8],
      'k_proj.weight': [8, 8],
      'v_proj.weight': [8, 8],
      'output_gate.0.weight': [4, 8],
      'output_gate.1.weight': [8, 4],
      'norm.weight': [8],
      'o_proj.weight': [8, 8],
    });
    const largest = (name: string): number => max(abs(state.get(name) as Tensor)).dataSync()[0];
    expect(largest('q_proj.weight')).toBeLessThanOrEqual(0.01 * Math.sqrt(6 / 16));
    expect(largest('q_proj.weight')).toBeGreaterThan(0);
    expect(largest('o_proj.weight')).toBe(0);
    const again = stateDict(new LightNetAttention({ dim: DIM, heads: HEADS, rng: new Rng(1) }));
    expect(again.get('v_proj.weight')?.dataSync()).toEqual(state.get('v_proj.weight')?.dataSync());
  });

  it('names options and shapes that do not fit', () => {
    expect(() => layer({ heads: 3 })).toThrow(/dim is 8; it must be a multiple of heads, 3/);
    expect(() => layer({ gate: 'sum' as 'pre' })).toThrow(/gate is "sum"; it may be "pre", "post", "none"/);
    expect(() => layer({ scalarDecay: 'abc' as 'complement' })).toThrow(/scalarDecay is "abc"; it may be true, false/);
    expect(() => layer({ causal: 'no' as never })).toThrow(/causal is "no"/);
    expect(() => layer({ sink: 1 as never })).toThrow(/sink is 1/);
    expect(() => layer({ causal: false, scalarDecay: true })).toThrow(/scalarDecay needs causal/);
    expect(() => layer({ encoding: new Alibi({ heads: HEADS }) })).toThrow(/acts on logits.*take one with rotate/);
    expect(() => layer({ encoding: new Sinusoidal({ dim: DIM }) })).toThrow(/has embed alone, which a model adds/);
    expect(() => layer({ encoding: 'rope' as never })).toThrow(/encoding is "rope"/);
    expect(() => layer({ encoding: new Nope() })).not.toThrow();
    const rotary = layer({ encoding: new MdLrpe({ headDim: 4, form: 'rotary' }) });
    expect(() => rotary.apply(input(3))).toThrow(ConfigError);
    expect(() => layer({ causal: false }).step(input(1))).toThrow(/step needs causal/);
    const { state } = layer().step(input(1));
    expect(() => layer().step(input(1, 3), state)).toThrow(/state must be s \[3, 2, keyWidth, 4\].*not \[2,2,4,4\]/);
    expect(() => layer({ scalarDecay: true }).step(input(1), state)).toThrow(/logsum \[2, 2, 1\]/);
    expect(() => layer({ encoding: cosine() }).step(input(1), state)).toThrow(/keys 4 wide; this layer's are 8/);
    expect(() => layer().step(input(1), {} as never)).toThrow(ShapeError);
    expect(() => layer().apply(input(3), { mask: tensor2d([[1, 1]]) })).toThrow(/mask must be \[2,3\]/);
    expect(() => layer().apply(tensor2d([[1, 1]]))).toThrow(ShapeError);
  });
});

describe('LightNetBlock', () => {
  it('starts as the identity and then has right gradients', () => {
    const options = { dim: DIM, heads: HEADS, hidden: 6, rng: rng.fork('block') };
    const x = input(3, 1);
    expect(furthest(new LightNetBlock(options).apply(x), x)).toBe(0);
    const block = new LightNetBlock({ ...options, init, outInit: init });
    block.glu.down_proj.weight.assign(rng.fork('down').normal([DIM, 6]));
    gradCheck((x) => block.apply(x), [x], { order: 1 });
    expectNoLeak(() => block.apply(x));
    expect(() => new LightNetBlock({ ...options, hidden: 0 })).toThrow(/hidden is 0/);
  });
});
