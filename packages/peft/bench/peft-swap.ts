import { Llama } from '@ashlar/models';
import { jit, memory, moduleState, Rng, setBackend, type Tensor, tensor1d, tidy } from '@ashlar/tensor';
import { defineBench } from '../../../tooling/bench/src/define-bench.ts';
import { attach, lora } from '../src/index.ts';

const [LAYERS, WIDTH, LENGTH, ADAPTERS] = [12, 768, 64, 10];
const CONFIG = {
  model_type: 'llama',
  vocab_size: 4096,
  hidden_size: WIDTH,
  intermediate_size: 2048,
  num_hidden_layers: LAYERS,
  num_attention_heads: 12,
  max_position_embeddings: LENGTH,
};

export default defineBench(async () => {
  await setBackend('ort');
  const rng = new Rng(1);
  const model = new Llama(CONFIG, { rng: rng.fork('model') });
  model.eval();
  const ids = rng.fork('ids').integers([1, LENGTH], 0, CONFIG.vocab_size);
  const batch = rng.fork('batch').integers([ADAPTERS, LENGTH], 0, CONFIG.vocab_size);
  const rows = tensor1d([...Array(ADAPTERS).keys()], 'int32');
  const run = (x: Tensor): Tensor => model.apply(x, { lastOnly: true });
  tidy(() => run(ids));
  const baseMiB = memory().numBytes / 2 ** 20;

  const config = { r: 8, targetModules: 'all-linear' };
  const names = Array.from({ length: ADAPTERS }, (_, i) => `adapter${i}`);
  const handle = attach(model, lora(config), { name: names[0], rng: rng.fork(0) });
  for (const name of names.slice(1)) handle.add(name, config, { rng: rng.fork(name) });
  const state = [moduleState(model)];
  const one = jit(run, { state });
  const together = jit(run, { state });
  const byRow = jit((x: Tensor, rows: Tensor): Tensor => handle.withRows(rows, () => run(x)), { state });
  const base = jit(run, { state });
  const traces = (pass: { traces: number }) => () => ({ traces: pass.traces, 'MiB over the base': over() });
  const over = (): number => Math.round(memory().numBytes / 2 ** 20 - baseMiB);

  let next = 0;
  const switched = (): void => {
    handle.setActive(names[next++ % ADAPTERS]);
    one(ids).dispose();
  };
  return {
    name: `a pass of ${LENGTH} tokens through a Llama of ${LAYERS} x ${WIDTH} with ${ADAPTERS} LoRA adapters of rank 8`,
    contestants: {
      'the base': { prepare: () => handle.disable(), run: () => base(ids).dispose(), notes: traces(base) },
      'one adapter': {
        prepare() {
          handle.enable();
          handle.setActive(names[0]);
        },
        run: () => one(ids).dispose(),
        notes: traces(one),
      },
      'another adapter at every pass': { prepare: () => handle.enable(), run: switched, notes: traces(one) },
      [`${ADAPTERS} rows, each its own, one after the other`]: {
        prepare: () => handle.enable(),
        run: () => names.forEach(switched),
        notes: traces(one),
      },
      [`${ADAPTERS} rows, each its own, in one pass`]: {
        prepare() {
          handle.enable();
          handle.setActive(names);
        },
        run: () => byRow(batch, rows).dispose(),
        notes: traces(byRow),
      },
      [`${ADAPTERS} rows of one adapter`]: {
        prepare() {
          handle.enable();
          handle.setActive(names[0]);
        },
        run: () => together(batch).dispose(),
        notes: traces(together),
      },
    },
    cleanUp() {
      for (const pass of [one, together, byRow, base]) pass.dispose();
      for (const tensor of [ids, batch, rows]) tensor.dispose();
      model.dispose();
    },
  };
});
