import { Conv1D, Linear } from '@ashlar/nn';
import { type AnyModule, ConfigError } from '@ashlar/tensor';
import { AdapterLayer, guestOf } from '../adapter-layer.ts';
import { isRank } from '../check-options.ts';
import type { LofitConfig } from './config.ts';

export type Projection = Linear | Conv1D;

/** An attention layer seen from its output projection, whose input `[..., heads headDim]` are the heads' outputs. */
interface AttentionOutput {
  path: string;
  projection: AnyModule;
  heads: number;
}

/** The attention layers of a model, first to last. @throws ConfigError where there is none, or its heads are unknown. */
export function attentionOutputs(model: AnyModule, { projections, numHeads }: LofitConfig): AttentionOutput[] {
  const config = (model as { config?: { num_attention_heads?: number; n_head?: number } }).config;
  const found: AttentionOutput[] = [];
  for (const [path, module] of model.namedModules()) {
    const children = new Map(module.namedChildren());
    for (const [name, projection] of children) {
      const full = path === '' ? name : `${path}.${name}`;
      const usual = children.has('q_proj') ? ['o_proj', 'out_proj'] : children.has('c_attn') ? ['c_proj'] : [];
      const wanted = projections?.some((entry) => full === entry || full.endsWith(`.${entry}`)) ?? usual.includes(name);
      if (!wanted) continue;
      const own = (module as { heads?: unknown }).heads;
      const heads = numHeads ?? (isRank(own) ? (own as number) : (config?.num_attention_heads ?? config?.n_head));
      if (heads === undefined) throw new ConfigError(`How many heads '${path}' has is unknown; set numHeads.`);
      found.push({ path: full, projection, heads });
    }
  }
  if (found.length === 0) {
    const looked = projections?.join(', ') ?? 'o_proj or out_proj beside q_proj, c_proj beside c_attn';
    throw new ConfigError(`The model has no attention output projection (${looked}); name them by 'projections'.`);
  }
  return found;
}

/** The width of a projection's input. */
function inputWidth({ path, projection }: AttentionOutput): number {
  if (projection instanceof Linear) return projection.inFeatures;
  if (projection instanceof Conv1D) return projection.weight.shape[0];
  const what = projection instanceof AdapterLayer ? 'carries another adapter' : 'is no linear layer';
  throw new ConfigError(
    `'${path}' ${what} (${projection.constructor.name}); LoFiT hooks plain projections: leave it out of the other ` +
      "method's targets by 'excludeModules'.",
  );
}

/** The width of one head. */
export function headWidth(output: AttentionOutput): number {
  const width = inputWidth(output);
  const guest = guestOf(output.projection);
  if (guest !== undefined) {
    throw new ConfigError(`'${output.path}' carries another adapter (${guest}); unload that first.`);
  }
  if (width % output.heads !== 0) {
    throw new ConfigError(`'${output.path}' takes ${width} numbers, which ${output.heads} heads do not divide.`);
  }
  return width / output.heads;
}
