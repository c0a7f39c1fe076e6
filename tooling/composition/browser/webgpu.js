// The webgpu backend in a browser: reference numbers, training as on cpu, no leak.
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-webgpu';
import { env, memory, setBackend } from '@ashlar/tensor';
import * as encodings from '../../../packages/encodings/test/golden.ts';
import * as peft from '../../../packages/peft/test/golden.ts';
import { replay } from '../../golden/src/replay.ts';
import { llama, trainingSteps } from './llama.ts';

const files = import.meta.glob(
  ['../../../packages/peft/test/golden/lora/*.json', '../../../packages/encodings/test/golden/*/*.json'],
  { eager: true, import: 'default' },
);
const functions = { ...peft.default, ...encodings.default };

// Small tensors, too, go to the GPU, whose kernels are what is tested.
env().set('WEBGPU_CPU_FORWARD', false);
if (!(await setBackend('webgpu'))) throw new Error('the webgpu backend does not start');
// A singular value decomposition reads its matrix at once, which SwiftShader does not survive.
delete functions['lora/pissa_init'];
let passed = 0;
for (const [path, golden] of Object.entries(files)) {
  if (!(`${golden.method}/${golden.function}` in functions)) continue;
  const problem = await replay({ ...golden, path }, functions[`${golden.method}/${golden.function}`]);
  if (problem) throw new Error(`${path}: ${problem}`);
  passed++;
}
console.log(`golden: ${passed} cases pass`);

for (const what of ['full', 'LoRA']) {
  await setBackend('cpu');
  const expected = await trainingSteps(llama(what), 2);
  await setBackend('webgpu');
  const { numTensors } = memory();
  const actual = await trainingSteps(llama(what), 2);
  const worst = Math.max(...actual.losses.map((loss, i) => Math.abs(loss - expected.losses[i])));
  if (!(worst < 1e-3)) throw new Error(`${what}: losses ${actual.losses} instead of ${expected.losses}`);
  if (memory().numTensors !== numTensors) throw new Error(`${what}: leaks ${memory().numTensors - numTensors} tensors`);
  console.log(`${what}: trains as cpu does`);
}
