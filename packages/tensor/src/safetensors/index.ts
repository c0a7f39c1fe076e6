export { DTYPE_BITS, type SafetensorsDtype } from './dtype.ts';
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half-precision.ts';
export type { TensorDescription } from './header.ts';
export { loadSafetensors, openSafetensors, type SafetensorsFile, type SafetensorsSource } from './reader.ts';
export type { FetchOptions } from './url-source.ts';
export {
  type FloatDtype,
  type NamedTensors,
  type SaveSafetensorsOptions,
  saveSafetensors,
  serializeSafetensors,
  type TensorBytes,
} from './writer.ts';
