import '@tensorflow/tfjs-backend-cpu';
import { ConfigError, FormatError, memory, Parameter, setBackend, tensor } from '@ashlar/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { ParameterEma, tabulated } from './index.ts';

beforeAll(() => setBackend('cpu'));

describe('ParameterEma', () => {
  const read = (parameter: Parameter): number[] => Array.from(parameter.stored.dataSync());

  it('averages, swaps in and out, and saves the average whichever is in', () => {
    const before = memory().numTensors;
    const w = new Parameter(tensor([0, 8]));
    const ema = new ParameterEma(new Map([['w', w]]), { decay: 0.75 });
    w.assign(tensor([4, 4]));
    ema.update();
    w.assign(tensor([8, 0]));
    ema.update();
    ema.swap();
    expect(ema.swapped).toBe(true);
    expect(read(w)).toEqual([2.75, 5.25]);
    ema.update();
    expect(Array.from(ema.stateDict().get('w')?.dataSync() ?? [])).toEqual([2.75, 5.25]);
    ema.swap();
    expect(read(w)).toEqual([8, 0]);
    expect(Array.from(ema.stateDict().get('w')?.dataSync() ?? [])).toEqual([2.75, 5.25]);

    const other = new ParameterEma(new Map([['w', w]]), { decay: 0.75 });
    other.loadStateDict(ema.stateDict());
    other.swap();
    expect(read(w)).toEqual([2.75, 5.25]);
    other.dispose();
    expect(read(w)).toEqual([8, 0]);
    ema.dispose();
    w.dispose();
    expect(memory().numTensors).toBe(before);
  });

  it('takes a schedule of the updates so far', () => {
    const w = new Parameter(tensor([0]));
    const ema = new ParameterEma(new Map([['w', w]]), { decay: tabulated((step) => [0, 0.5][step], 2) });
    for (const value of [2, 4]) {
      w.assign(tensor([value]));
      ema.update();
    }
    ema.swap();
    expect(read(w)).toEqual([3]);
  });

  it('refuses a decay above 1 and a state that does not fit', () => {
    const w = new Parameter(tensor([0]));
    expect(() => new ParameterEma(new Map([['w', w]]), { decay: 1.5 })).toThrow(ConfigError);
    const ema = new ParameterEma(new Map([['w', w]]), { decay: 0.5 });
    expect(() => ema.loadStateDict(new Map([['w', tensor([0])]]))).toThrow(FormatError);
  });
});
