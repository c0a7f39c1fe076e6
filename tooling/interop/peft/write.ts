/**
 * Writes adapters with `save` and the logits with each into FOLDER, for check.py:
 *
 *     pnpm tsx --conditions=@ashlar/source tooling/interop/peft/write.ts FOLDER
 */
import '@ashlar/backend-ort';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel } from '@ashlar/models';
import { attach, type LoraConfig, lora } from '@ashlar/peft';
import { add, Rng, saveSafetensors, setBackend, tensor, tidy } from '@ashlar/tensor';

const FIXTURES = fileURLToPath(new URL('fixtures', import.meta.url));

const ADAPTERS: Record<string, LoraConfig & { asPlainLora?: boolean }> = {
  'llama/lora': { r: 4, loraAlpha: 8 },
  'llama/dora': { r: 2, targetModules: 'all-linear', useDora: true },
  'llama/rslora': { r: 4, targetModules: ['o_proj', 'up_proj'], useRslora: true },
  'llama/regex': { r: 2, targetModules: '.*\\.(q|v)_proj', excludeModules: 'model\\.layers\\.1\\..*' },
  'llama/layers': { r: 2, targetModules: ['q_proj'], layersToTransform: [1], layersPattern: 'layers' },
  'llama/patterns': {
    r: 2,
    targetModules: ['q_proj', 'k_proj'],
    rankPattern: { q_proj: 4 },
    alphaPattern: { 'layers.1.self_attn.q_proj': 16 },
  },
  'llama/modules-to-save': { r: 2, targetModules: ['q_proj'], modulesToSave: ['lm_head', 'norm'] },
  'llama/embedding': { r: 4, loraAlpha: 8, targetModules: ['embed_tokens', 'v_proj', 'lm_head'] },
  'llama/embedding-dora': { r: 4, targetModules: ['embed_tokens'], useDora: true },
  'llama/pissa': { r: 2, loraAlpha: 4, targetModules: ['q_proj'], initLoraWeights: 'pissa', asPlainLora: false },
  'llama/pissa-converted': {
    r: 2,
    targetModules: ['q_proj', 'k_proj'],
    initLoraWeights: 'pissa',
    rankPattern: { k_proj: 3 },
  },
  'llama/olora-converted': { r: 2, targetModules: ['v_proj'], initLoraWeights: 'olora', useRslora: true },
  'gpt2/lora': { r: 4, loraAlpha: 8 },
  'gpt2/dora': { r: 2, targetModules: ['c_attn', 'c_proj', 'c_fc'], useDora: true },
  'gpt2/bias-all': { r: 2, targetModules: ['c_attn'], bias: 'all' },
  'gpt2/bias-lora-only': { r: 2, targetModules: ['c_attn'], bias: 'lora_only' },
  'gpt2/lora-bias': { r: 2, targetModules: ['attn.c_proj'], loraBias: true },
  'gpt2/embedding': { r: 2, targetModules: ['wte', 'c_fc'] },
  'gpt2/pissa-converted': { r: 2, targetModules: ['c_attn'], initLoraWeights: 'pissa' },
};

const [folder] = process.argv.slice(2);
await setBackend('ort');
const ids = tensor(JSON.parse(await readFile(join(FIXTURES, 'ids.json'), 'utf8')), undefined, 'int32');
for (const [path, { asPlainLora, ...config }] of Object.entries(ADAPTERS)) {
  const model = await loadModel(join(FIXTURES, dirname(path)));
  model.eval();
  const adapter = attach(model, lora(config), { rng: new Rng(1) });
  for (const [name, parameter] of adapter.parameters()) {
    const noise = new Rng(2).fork(name);
    parameter.assign(tidy(() => add(parameter.stored, noise.normal(parameter.shape, { std: 0.2 }))));
  }
  await adapter.save(join(folder, path), { asPlainLora });
  await saveSafetensors(join(folder, path, 'expected.safetensors'), new Map([['logits', model.apply(ids)]]));
}
