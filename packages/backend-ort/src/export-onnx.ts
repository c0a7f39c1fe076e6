import { rename, rm, writeFile } from 'node:fs/promises';
import type { Tensor } from '@tensorflow/tfjs-core';
import { type ExportOptions, type Named, toOnnx } from './to-onnx.ts';

/**
 * Write what `toOnnx` gives to `file`; on an error nothing is there that was not before.
 * @example
 * await exportOnnx(({ input_ids }) => ({ logits: model.apply(input_ids) }), { input_ids }, 'model.onnx', {
 *   dynamicAxes: { input_ids: { 0: 'batch', 1: { name: 'sequence', max: 512 } } },
 * });
 */
export async function exportOnnx(
  fn: (inputs: Record<string, Tensor>) => Named,
  example: Named,
  file: string,
  options: ExportOptions = {},
): Promise<{ limits: Record<string, number> }> {
  const { model, limits } = toOnnx(fn, example, options);
  const partial = `${file}.partial`;
  try {
    await writeFile(partial, model);
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
  return { limits };
}
