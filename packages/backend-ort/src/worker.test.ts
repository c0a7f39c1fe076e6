import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';

/** The binding serves several threads at once, as session.ts uses it; the worker runs without a TypeScript loader. */
const PROGRAM = `
const { parentPort } = require('node:worker_threads');
const { createRequire } = require('node:module');
const { binding, initOrt } = createRequire(${JSON.stringify(import.meta.url)})('onnxruntime-node/dist/binding');
initOrt();
parentPort.once('message', (model) => {
  const session = new binding.InferenceSession();
  session.loadModel(model.buffer, model.byteOffset, model.byteLength, { logSeverityLevel: 4 });
  const data = new Float32Array(3);
  const feeds = { x0: { type: 'float32', data: Float32Array.of(1, 2, 3), dims: [3], location: 'cpu' } };
  const fetches = { done: null, y0: { type: 'float32', data, dims: [3], location: 'cpu' } };
  for (let i = 0; i < 100; i++) {
    try {
      session.run(feeds, fetches, {});
    } catch (error) {
      if (!error.message.startsWith('Non tensor type')) throw error;
    }
  }
  parentPort.postMessage(Array.from(data));
});
`;

describe('worker threads', () => {
  it('run graphs beside the main thread', async () => {
    const { buildModel } = await import('./graph.ts');
    const { loadSession } = await import('./session.ts');
    const model = buildModel('Square', {
      key: '',
      inputs: [{ tensor: { dataId: {}, shape: [3], dtype: 'float32' }, shape: [3] }],
      outputs: [{ shape: [3], dtype: 'float32' }],
      emit: (g, [x]) => g.op('Mul', [x!, x!]),
    });
    loadSession(model, 'parallel').dispose();
    const results = await Promise.all(
      [1, 2].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(PROGRAM, { eval: true });
            worker.once('message', (message) => {
              resolve(message);
              void worker.terminate();
            });
            worker.once('error', reject);
            worker.postMessage(model);
          }),
      ),
    );
    expect(results).toEqual([
      [1, 4, 9],
      [1, 4, 9],
    ]);
  });
});
