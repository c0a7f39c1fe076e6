import type { GoldenJson } from './define-golden.ts';

/** A tensor as golden files write it: row-major data, and the dtype where it is not float. */
export type JsonTensor = { shape: number[]; data: (number | boolean)[]; dtype?: string };

export interface GoldenCase {
  path: string;
  method: string;
  function: string;
  case: string;
  description?: string;
  inputs: { [name: string]: GoldenJson };
  outputs: { [name: string]: GoldenJson };
  tolerance: { rtol: number; atol: number };
}

/** Whether a value is a tensor: an object whose keys are `shape` and `data`, with or without `dtype`. */
export function isJsonTensor(value: unknown): value is JsonTensor {
  if (!isRecord(value)) return false;
  return 'shape' in value && 'data' in value && Object.keys(value).every((key) => tensorKeys.has(key));
}

const tensorKeys = new Set(['shape', 'data', 'dtype']);

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
