export { type Adaptation, type AdaptOptions, adapt, evaluateText } from './adapt.ts';
export { startBackend } from './backend.ts';
export { type Document, kingJames, mobyDick, stateOfTheUnion } from './corpora.ts';
export { ENCODINGS, type EncodingSetting, type NamedEncoding } from './encodings.ts';
export * from './language-model.ts';
export * from './lengths.ts';
export { METHODS, type Method, type MethodOptions } from './methods.ts';
export { type PretrainOptions, pretrain } from './pretrain.ts';
export { type MethodResult, type Report, reportPage, textTable } from './report/page.ts';
