import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  Buffer,
  ConfigError,
  disposeMap,
  FormatError,
  loadStateDict,
  lossAndGrads,
  Module,
  matMul,
  memory,
  mul,
  ones,
  Parameter,
  replaceModule,
  ShapeError,
  setBackend,
  stateDict,
  sum,
  type Tensor,
  tensor,
  tidy,
} from './index.ts';

class Scale extends Module {
  weight = new Parameter(tensor([2, 3]));
  steps = new Buffer(tensor(0));
  cache = new Buffer(tensor([0, 0]), { persistent: false });

  forward(x: Tensor): Tensor {
    return mul(x, this.weight.value);
  }
}

class Net extends Module {
  h = [new Scale(), new Scale()];
  heads = { main: new Scale() };
  head: Module = this.heads.main;

  forward(x: Tensor): Tensor {
    return this.head.apply(this.h.reduce((y, block) => block.apply(y), x));
  }
}

beforeAll(() => setBackend('cpu'));

describe('Module', () => {
  it('names children, parameters and buffers as PyTorch does, tied ones once', () => {
    const net = new Net();
    expect([...net.namedModules()].map(([name]) => name)).toEqual(['', 'h.0', 'h.1', 'heads.main']);
    expect([...net.namedParameters()].map(([name]) => name)).toEqual(['h.0.weight', 'h.1.weight', 'heads.main.weight']);
    expect([...stateDict(net).keys()]).toEqual([
      'h.0.weight',
      'h.0.steps',
      'h.1.weight',
      'h.1.steps',
      'heads.main.weight',
      'heads.main.steps',
      'head.weight',
      'head.steps',
    ]);
    net.dispose();
  });

  it('runs hooks in order, and removing one restores the model exactly', () => {
    const net = new Net();
    const run = (): number[] => tidy(() => Array.from(net.apply(tensor([1, 1])).dataSync()));
    expect(run()).toEqual([8, 27]);
    const pre = net.getSubmodule('h.1').registerForwardPreHook(([x]) => [mul(x, 10)]);
    const post = net.getSubmodule('h.1').registerForwardHook((out) => add(out, 1));
    expect(run()).toEqual([2 * (40 + 1), 3 * (90 + 1)]);
    pre.remove();
    pre.remove();
    post.remove();
    expect(run()).toEqual([8, 27]);
    net.dispose();
  });

  it('suggests close names for a wrong path', () => {
    const net = new Net();
    expect(() => net.getSubmodule('h.2')).toThrow(ConfigError);
    expect(() => net.getSubmodule('h.2')).toThrow(/Closest names: h\.[01]/);
    expect(() => net.getParameter('h.0.wieght')).toThrow(/h\.0\.weight/);
    net.dispose();
  });

  it('replaces a module by path, in arrays and objects too', () => {
    const net = new Net();
    class Plus extends Module {
      base: Module;
      constructor(base: Module) {
        super();
        this.base = base;
      }
      forward(x: Tensor): Tensor {
        return add(this.base.apply(x), 1);
      }
    }
    const base = net.h[0];
    replaceModule(net, 'h.0', (module) => new Plus(module as Module));
    expect([...net.namedParameters()][0][0]).toBe('h.0.base.weight');
    expect(tidy(() => net.apply(tensor([1, 1])).arraySync())).toEqual([3 * 4, 4 * 9]);
    replaceModule(net, 'h.0', () => base);
    expect(net.h[0]).toBe(base);
    net.dispose();
  });

  it('switches training and gradients for everything below', () => {
    const net = new Net();
    expect(net.eval().h[1].training).toBe(false);
    expect(net.freeze().trainableParameters().size).toBe(0);
    net.h[1].unfreeze();
    expect([...net.trainableParameters().keys()]).toEqual(['h.1.weight']);
    net.dispose();
  });
});

describe('Parameter', () => {
  it('makes a lazy tensor on first use only, and never when loaded over', () => {
    let made = 0;
    const init = (): Tensor => {
      made++;
      return ones([2]);
    };
    const a = new Parameter({ shape: [2], init });
    const b = new Parameter({ shape: [2], init });
    b.assign(tensor([5, 6]));
    expect(made).toBe(0);
    expect(Array.from(a.stored.dataSync())).toEqual([1, 1]);
    expect(a.stored).toBe(a.stored);
    expect(made).toBe(1);
    expect(() => a.assign(ones([3]))).toThrow(ShapeError);
    a.dispose();
    b.dispose();
    expect(() => a.stored).toThrow(/disposed/);
  });

  it('stacks parametrizations in order and merges them', () => {
    const p = new Parameter(tensor([1, 2]));
    p.parametrizations.push({ parametrize: (w) => mul(w, 10) }, { parametrize: (w) => add(w, 1) });
    expect(tidy(() => p.value.arraySync())).toEqual([11, 21]);
    tidy(() => p.mergeParametrizations());
    expect(p.stored.arraySync()).toEqual([11, 21]);
    p.dispose();
  });
});

describe('loadStateDict', () => {
  it('lists everything that does not fit at once and changes nothing', () => {
    const net = new Net();
    const state = new Map(stateDict(net));
    state.delete('h.0.weight');
    state.set('h.0.wieght', tensor([1]));
    state.set('h.1.weight', tensor([1, 2, 3]));
    state.set('h.1.steps', tensor(7));
    expect(() => loadStateDict(net, state, { source: 'model.safetensors' })).toThrow(FormatError);
    expect(() => loadStateDict(net, state)).toThrow(
      /missing: h\.0\.weight\n {2}unexpected: h\.0\.wieght \(did you mean h\.0\.weight\?\)\n {2}wrong shape or type: h\.1\.weight is \[3\], the model has \[2\]/,
    );
    expect(net.h[1].steps.stored.arraySync()).toBe(0);
    net.dispose();
  });

  it('takes a tied tensor under either of its names and copies', () => {
    const net = new Net();
    const state = new Map([...stateDict(net)].filter(([name]) => !name.startsWith('heads')));
    const given = tensor([7, 8]);
    state.set('head.weight', given);
    expect(loadStateDict(net, state)).toEqual({ missing: [], unexpected: [] });
    given.dispose();
    expect(net.heads.main.weight.stored.arraySync()).toEqual([7, 8]);
    net.dispose();
  });
});

describe('lossAndGrads', () => {
  it('differentiates by name, gives zeros where unused, and leaks nothing', () => {
    const w = new Parameter(tensor([[1, 2]]));
    const unused = new Parameter(tensor([1, 1]));
    const before = memory().numTensors;
    const { loss, grads } = lossAndGrads(
      () => sum(matMul(w.value, tensor([[3], [4]]))),
      new Map([
        ['w', w],
        ['unused', unused],
      ]),
    );
    expect(loss.arraySync()).toBe(11);
    expect(grads.get('w')?.arraySync()).toEqual([[3, 4]]);
    expect(grads.get('unused')?.arraySync()).toEqual([0, 0]);
    loss.dispose();
    disposeMap(grads);
    expect(memory().numTensors).toBe(before);
    expect(() => lossAndGrads(() => w.value, new Map([['w', w]]))).toThrow(ShapeError);
  });
});
