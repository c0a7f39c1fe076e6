import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, Rng, replaceModule, setBackend, type Tensor, tensor } from '@ashlar/tensor';
import { expectNoLeak, gradCheck } from '@ashlar/tensor/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { activation, activationNames, gelu, Linear, Mlp, normal_, relu, Sequential, SwiGLU, silu } from './index.ts';
import { checkParameterGradients, dot, expectClose, type Matrix, random, rowsOf } from './reference.testing.ts';

beforeAll(() => setBackend('cpu'));

const rng = new Rng(6);
const init = normal_({ std: 0.5 });

function project(layer: Linear, rows: Matrix): Matrix {
  const [bias] = layer.bias === undefined ? [[]] : rowsOf(layer.bias.stored);
  return rows.map((row) => rowsOf(layer.weight.stored).map((w, i) => dot(row, w) + (bias[i] ?? 0)));
}

const geluTanh = (x: number): number => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const siluOf = (x: number): number => x / (1 + Math.exp(-x));

describe('Mlp', () => {
  it('is fc2(act(fc1(x)))', () => {
    const layer = new Mlp(4, 6, { activation: 'gelu_new', init, rng });
    const x = random([2, 3, 4]);
    const hidden = project(layer.fc1, rowsOf(x)).map((row) => row.map(geluTanh));
    expectClose(layer.apply(x), project(layer.fc2, hidden));
    gradCheck((x) => layer.apply(x), [x], { order: 1 });
    checkParameterGradients(layer, () => layer.apply(x));
    expectNoLeak(() => layer.apply(x));
  });

  it('drops hidden units in training', () => {
    const layer = new Mlp(4, 6, { dropout: 0.5, bias: false, rng });
    const x = random([2, 4]);
    expect(layer.apply(x).dataSync()).not.toEqual(layer.eval().apply(x).dataSync());
    expect(layer.parameters()).toHaveLength(2);
  });
});

describe('SwiGLU', () => {
  it('is down(silu(gate(x)) up(x))', () => {
    const layer = new SwiGLU(4, 6, { init, rng });
    const x = random([3, 4]);
    const [gate, up] = [layer.gate_proj, layer.up_proj].map((projection) => project(projection, rowsOf(x)));
    const hidden = gate.map((row, i) => row.map((value, j) => siluOf(value) * up[i][j]));
    expectClose(layer.apply(x), project(layer.down_proj, hidden));
    expect([...layer.namedParameters()].map(([name]) => name)).toEqual([
      'gate_proj.weight',
      'up_proj.weight',
      'down_proj.weight',
    ]);
    gradCheck((x) => layer.apply(x), [x], { order: 1 });
    checkParameterGradients(layer, () => layer.apply(x));
    expectNoLeak(() => layer.apply(x));
  });
});

describe('Sequential', () => {
  it('runs modules and functions in turn, under their indices', () => {
    const [first, second] = [new Linear(4, 3, { rng }), new Linear(3, 2, { rng })];
    const model = new Sequential([first, relu, second]);
    const x = random([5, 4]);
    const hidden = project(first, rowsOf(x)).map((row) => row.map((value) => Math.max(0, value)));
    expectClose(model.apply(x), project(second, hidden));
    expect([...model.namedParameters()].map(([name]) => name)).toEqual(['0.weight', '0.bias', '2.weight', '2.bias']);
    expectNoLeak(() => model.apply(x));
  });

  it('uses a module that replaces one of its own', () => {
    const model = new Sequential([new Linear(4, 3, { rng }), gelu]);
    replaceModule(model, '0', () => new Linear(4, 7, { rng }));
    expect(model.apply(random([1, 4])).shape).toEqual([1, 7]);
  });

  it('may be empty, or longer than ten', () => {
    expectClose(new Sequential([]).apply(tensor([1, 2])), [1, 2]);
    const order: number[] = [];
    const steps = Array.from({ length: 12 }, (_, i) => (x: Tensor) => {
      order.push(i);
      return x;
    });
    new Sequential(steps).apply(tensor([0]));
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });
});

describe('activation', () => {
  const x = random([20], 'x');
  const each: [string, (x: number) => number][] = [
    ['gelu_new', geluTanh],
    ['gelu_pytorch_tanh', geluTanh],
    ['relu', (x) => Math.max(0, x)],
    ['silu', siluOf],
    ['swish', siluOf],
    ['tanh', Math.tanh],
  ];
  it.each(each)('%s', (name, f) => {
    expect(activationNames).toContain(name);
    expectClose(activation(name)(x), Array.from(x.dataSync(), f));
  });

  it('gelu is x Phi(x)', () => {
    // Phi(1) and Phi(-0.5), from tables of the normal distribution.
    expectClose(activation('gelu')(tensor([1, -0.5])), [0.8413447, -0.5 * 0.3085375]);
  });

  it('names the closest of what it knows', () => {
    expect(() => activation('gelu_newer')).toThrow(/closest: gelu_new/);
    expect(() => activation('constructor')).toThrow(ConfigError);
    expectClose(silu(x), rowsOf(activation('silu')(x)));
  });
});
