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
export type { CheckedLofitConfig, Head, LofitConfig } from './lofit/config.ts';
export { dpoLoss } from './lofit/dpo-loss.ts';
export { LofitHeads } from './lofit/heads.ts';
export { LofitModel, loadLofit, lofit } from './lofit/lofit.ts';
export { type HeadSelectionOptions, selectHeads } from './lofit/select-heads.ts';
export type { CombinationType } from './lora/combine.ts';
export type { CheckedLoraConfig, LoraConfig, LoraInit } from './lora/config.ts';
export { LoraConv2d } from './lora/conv2d.ts';
export { LoraEmbedding } from './lora/embedding.ts';
export { type LoraAdapter, type LoraAdapterOptions, LoraLayer } from './lora/layer.ts';
export { LoraLinear } from './lora/linear.ts';
export { LoraModel, loadLora, lora } from './lora/lora.ts';
export {
  type CheckedLowRankConvConfig,
  type LowRankConvConfig,
  LowRankConvModel,
  LowRankUpdate,
  loadLowRankConv,
  lowRankConv,
} from './low-rank-conv.ts';
export type { TargetOptions } from './match.ts';
export * from './method.ts';
export { BinaryMask } from './ramt/binary-mask.ts';
export type { CheckedRamtConfig, RamtConfig } from './ramt/config.ts';
export { gradientDropout, keepProbability, type MaskGradientOptions, maskGradients } from './ramt/gradient-dropout.ts';
export { knowledgeLoss, maskNormPenalty } from './ramt/losses.ts';
export { loadRamt, RamtModel, ramt } from './ramt/ramt.ts';
export { type CheckedSaraConfig, type SaraConfig, type SaraSelection, saraLearningRate } from './sara/config.ts';
export type { SaraSparsity } from './sara/entry.ts';
export { loadSara, SaraModel, sara } from './sara/sara.ts';
export { smallEntries } from './sara/select.ts';
export { gatherMasked, SaraValues, scatterMasked } from './sara/values.ts';
export { type CheckedSVFitConfig, type EnergyKind, rankForEnergy, type SVFitConfig } from './svfit/config.ts';
export { type SVFitBase, SVFitLayer } from './svfit/layer.ts';
export { loadSVFit, SVFitModel, svfit } from './svfit/svfit.ts';
