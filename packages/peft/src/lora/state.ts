import { concat, neg, type Parameter, type Tensor, tidy, util } from '@ashlar/tensor';
import { assignTensors, PREFIX } from '../adapter-files.ts';
import type { LoraLayer } from './layer.ts';

/** One adapter as it stands in a file: its layers and all its parameters, by name in the model. */
export interface AdapterParts {
  name: string;
  layers: readonly (readonly [path: string, layer: LoraLayer])[];
  parameters: ReadonlyMap<string, Parameter>;
}

/**
 * Copies of the tensors of an adapter under their names in a PEFT file.
 * @param asPlainLora PiSSA and OLoRA, `W - s B0 A0 + s B A`, as the plain LoRA `s [B, -B0] [A; A0]` on `W`.
 */
export function adapterTensors(adapter: AdapterParts, asPlainLora: boolean): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [key, parameter] of adapter.parameters) tensors.set(`${PREFIX}${key}`, parameter.stored.clone());
  if (!asPlainLora) return tensors;
  for (const [path, layer] of adapter.layers) {
    const { start } = layer.adapter(adapter.name);
    if (start === undefined) continue;
    const { A, B } = layer.factors(adapter.name);
    replace(tensors, `${PREFIX}${path}.lora_A.weight`, concat([A.stored, start.A], 0));
    replace(
      tensors,
      `${PREFIX}${path}.lora_B.weight`,
      tidy(() => concat([B.stored, neg(start.B)], 1)),
    );
  }
  return tensors;
}

function replace(tensors: Map<string, Tensor>, name: string, tensor: Tensor): void {
  tensors.get(name)?.dispose();
  tensors.set(name, tensor);
}

/**
 * Copies `tensors`, named as in a PEFT file, into an adapter.
 * @throws FormatError listing all that does not fit; the adapter is then as before.
 */
export function assignAdapterTensors(
  adapter: AdapterParts,
  tensors: ReadonlyMap<string, Tensor>,
  source: string,
): void {
  const own = new Map([...adapter.parameters].map(([key, parameter]) => [`${PREFIX}${key}`, parameter]));
  // `peft` adds the frozen weight of an adapted embedding or output head to the file; it must be the one we have.
  const frozen = new Map(
    adapter.layers.map(([path, layer]) => [`${PREFIX}${path}.base_layer.weight`, layer.base_layer.weight]),
  );
  const foreign = [...frozen].flatMap(([key, weight]) => {
    const given = tensors.get(key);
    return given === undefined || own.has(key) || isCopy(given, weight.stored) ? [] : [key];
  });
  assignTensors(own, tensors, {
    source,
    ignore: new Set(frozen.keys()),
    problems:
      foreign.length > 0
        ? [`made for other base weights: ${foreign.join(', ')}; load it into the model it was made for`]
        : [],
  });
}

/** Whether `given` is `weight` within the rounding of a half-precision file. */
function isCopy(given: Tensor, weight: Tensor): boolean {
  if (!util.arraysEqual(given.shape, weight.shape)) return false;
  const [a, b] = [Array.from(given.dataSync()), Array.from(weight.dataSync())];
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.every((value, i) => Math.abs(value - b[i]) <= 0.004 * largest);
}
