import { type AnyModule, FormatError, quote } from '@ashlar/tensor';
import { readAdapterConfig } from './adapter-files.ts';
import { loadLofit } from './lofit/lofit.ts';
import { loadLora } from './lora/lora.ts';
import { loadLowRankConv } from './low-rank-conv.ts';
import type { AdapterHandle, AttachOptions } from './method.ts';
import { loadRamt } from './ramt/ramt.ts';
import { loadSara } from './sara/sara.ts';
import { loadSVFit } from './svfit/svfit.ts';

type Loader = (model: AnyModule, dir: string, options?: AttachOptions) => Promise<AdapterHandle>;

/** By `peft_type`. */
const LOADERS: Readonly<Record<string, Loader>> = {
  LORA: loadLora,
  LOFIT: loadLofit,
  LOWRANKCONV: loadLowRankConv,
  RAMT: loadRamt,
  SARA: loadSara,
  SVFIT: loadSVFit,
};

/**
 * Attaches the adapter in `dir`, of whatever kind its `adapter_config.json` names.
 * @throws FormatError naming the file and all that is wrong in it; the model is then as before.
 */
export async function loadAdapter(model: AnyModule, dir: string, options: AttachOptions = {}): Promise<AdapterHandle> {
  const { json, source } = await readAdapterConfig(dir);
  const type = json.peft_type;
  if (typeof type !== 'string' || !Object.hasOwn(LOADERS, type)) {
    const known = Object.keys(LOADERS).join(', ');
    throw new FormatError(`${source}: peft_type is ${quote(type)}; it must be one of ${known}.`);
  }
  return LOADERS[type](model, dir, options);
}
