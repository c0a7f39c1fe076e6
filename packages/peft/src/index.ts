export { type AdaptableModule, AdapterLayer } from './adapter-layer.ts';
export {
  type GladGradients,
  type GladOptions,
  type GladRule,
  gladGradients,
  gradientsAt,
  type RegularizeOptions,
  regularizeGradient,
  sharpnessPerturbation,
} from './glad.ts';
export { loadAdapter } from './load.ts';
export {
  type CheckedLofitConfig,
  dpoLoss,
  type Head,
  type HeadSelectionOptions,
  type LofitConfig,
  LofitHeads,
  LofitModel,
  loadLofit,
  lofit,
  selectHeads,
} from './lofit.ts';
export type { CombinationType } from './lora/combine.ts';
export type { CheckedLoraConfig, LoraConfig, LoraInit } from './lora/config.ts';
export { LoraConv2d } from './lora/conv2d.ts';
export { LoraEmbedding } from './lora/embedding.ts';
export { type LoraAdapter, type LoraAdapterOptions, LoraLayer } from './lora/layer.ts';
export { LoraLinear } from './lora/linear.ts';
export { LoraModel, loadLora, lora } from './lora/lora.ts';
export type { TargetOptions } from './match.ts';
export * from './method.ts';
export { type CheckedSaraConfig, type SaraConfig, type SaraSelection, saraLearningRate } from './sara/config.ts';
export type { SaraSparsity } from './sara/entry.ts';
export { loadSara, SaraModel, sara } from './sara/sara.ts';
export { smallEntries } from './sara/select.ts';
export { gatherMasked, SaraValues, scatterMasked } from './sara/values.ts';
export {
  type CheckedSVFitConfig,
  type EnergyKind,
  loadSVFit,
  rankForEnergy,
  type SVFitBase,
  type SVFitConfig,
  SVFitLayer,
  SVFitModel,
  svfit,
} from './svfit.ts';
