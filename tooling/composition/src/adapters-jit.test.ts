import '@ashlar/backend-ort';
import { attach, lora } from '@ashlar/peft';
import { jit, moduleState, Rng, setBackend, type Tensor, tensor1d } from '@ashlar/tensor';
import { beforeAll, expect, it } from 'vitest';
import { llama } from '../browser/llama.ts';

beforeAll(() => setBackend('ort'));

it('adapters of equal shapes share a graph, switched or chosen by row', () => {
  const rng = new Rng('adapters');
  const model = llama('full').eval();
  const x = rng.fork('x').integers([4, 8], 0, 40);
  const config = { r: 4, loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] };
  const names = ['a', 'b', 'c'];
  const adapter = attach(model, lora(config), { name: 'unused' });
  for (const name of names) {
    adapter.add(name, config, { rng: rng.fork(name) });
    for (const [path, parameter] of adapter.parameters()) {
      parameter.assign(
        rng
          .fork(name)
          .fork(path)
          .normal(parameter.shape as [number], { std: 0.3 }),
      );
    }
  }
  const forward = jit((ids: Tensor) => model.apply(ids) as Tensor, { state: [moduleState(model)] });
  const values = (logits: Tensor): Float32Array => {
    const data = logits.dataSync<'float32'>();
    logits.dispose();
    return data;
  };
  const distance = (a: Float32Array, b: Float32Array): number => Math.max(...a.map((v, i) => Math.abs(v - b[i])));
  const outputs = names.map((name) => {
    adapter.setActive(name);
    const output = values(forward(x));
    expect(distance(output, values(model.apply(x) as Tensor))).toBeLessThan(1e-5);
    return output;
  });
  expect(forward.traces).toBe(1);
  expect(distance(outputs[0], outputs[1])).toBeGreaterThan(0.01);

  adapter.setActive(names);
  const byRow = jit((ids: Tensor, rows: Tensor) => adapter.withRows(rows, () => model.apply(ids) as Tensor), {
    state: [moduleState(model)],
  });
  const [batchSize] = x.shape;
  const width = outputs[0].length / batchSize;
  for (const shift of [0, 1, 2]) {
    const chosen = Array.from({ length: batchSize }, (_, row) => (row + shift) % names.length);
    const rows = tensor1d(chosen, 'int32');
    const output = values(byRow(x, rows));
    rows.dispose();
    for (const [row, adapterIndex] of chosen.entries()) {
      const [from, to] = [row * width, (row + 1) * width];
      expect(distance(output.slice(from, to), outputs[adapterIndex].slice(from, to))).toBeLessThan(1e-5);
    }
  }
  expect(byRow.traces).toBe(1);
  forward.dispose();
  byRow.dispose();
  x.dispose();
  model.dispose();
});
