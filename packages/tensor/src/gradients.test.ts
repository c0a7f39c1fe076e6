import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import * as tf from './index.ts';
import { checkGradientCase, customGradientCases, gradientCases } from './testing/index.ts';

/** Kernels whose registered gradient has no case, each with the reason. */
const WITHOUT_CASE = {
  ArgMax: 'its result is an integer',
  ArgMin: 'its result is an integer',
  BroadcastTo: 'no backend has this kernel; broadcastTo runs Tile',
  ComplexAbs: 'tfjs has no gradients that lead to a complex input',
  FloorDiv: 'its result is an integer',
  GreaterEqual: 'its result is a boolean',
  IsFinite: 'its result is a boolean',
  IsInf: 'its result is a boolean',
  IsNan: 'its result is a boolean',
  LogSoftmax: 'logSoftmax differentiates itself, see customGradientCases',
  OneHot: 'its input is an integer',
  RotaryEmbedding:
    'only the ort backend has this kernel; rotaryEmbedding, see customGradientCases, composes it elsewhere',
};

/** tfjs's registry of gradients by kernel, which it keeps in a global and does not export. */
const registry = (globalThis as unknown as { _tfGlobals: Map<string, Map<string, tf.GradConfig>> })._tfGlobals.get(
  'gradRegistry',
)!;

beforeAll(() => tf.setBackend('cpu'));

it('every registered gradient has a case or a reason why not', () => {
  const covered = [...Object.keys(gradientCases), ...Object.keys(WITHOUT_CASE)];
  expect(covered.sort()).toEqual([...registry.keys()].sort());
});

for (const [kernel, cases] of Object.entries(gradientCases)) {
  describe(kernel, () => {
    it.each(cases.map((example) => ({ name: example[0], example })))('$name', ({ example }) => {
      const config = registry.get(kernel)!;
      let asked = 0;
      const gradFunc: tf.GradFunc = (...inputs) => {
        asked++;
        return config.gradFunc(...inputs);
      };
      registry.set(kernel, { ...config, gradFunc });
      try {
        checkGradientCase(example);
      } finally {
        registry.set(kernel, config);
      }
      expect(asked, `the case does not lead through the gradient of ${kernel}`).toBeGreaterThan(0);
    });
  });
}

describe('operations that differentiate themselves', () => {
  it.each(customGradientCases.map((example) => ({ name: example[0], example })))('$name', ({ example }) => {
    checkGradientCase(example);
  });
});
