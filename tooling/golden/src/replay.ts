import { dispose, memory, type Tensor, tensor, tensor_util } from '@ashlar/tensor';
import { compare, type Mismatch, worst } from './compare.ts';
import {
  type GoldenFunction,
  type GoldenInput,
  type GoldenInputs,
  type GoldenJson,
  Undetermined,
} from './define-golden.ts';
import { type GoldenCase, isJsonTensor, isRecord, type JsonTensor } from './golden-json.ts';

/**
 * Runs a case on the active backend; returns what is wrong in one line, or nothing if it passes.
 * @param note takes what the method leaves open, a line for each such output.
 */
export async function replay(
  golden: GoldenCase,
  call: GoldenFunction,
  note: (line: string) => void = () => {},
): Promise<string | undefined> {
  const inputs = decode(golden.inputs) as GoldenInputs;
  const given = tensorsIn(inputs);
  const before = memory().numTensors;
  try {
    const outputs = await call(inputs, golden.inputs, golden);
    const owned = [...new Set(tensorsIn(outputs))].filter((output) => !given.includes(output));
    // On a GPU, values can be read at once only after they have been waited for.
    await Promise.all(tensorsIn(outputs).map((output) => output.data()));
    for (const [name, output] of Object.entries(outputs)) {
      if (output instanceof Undetermined && openNumbers(output).length > 0) note(openIn(name, output));
    }
    const mismatches = compare(golden.outputs, outputs, golden.tolerance);
    dispose(owned);
    const leaked = memory().numTensors - before;
    if (mismatches.length > 0) return summary(mismatches);
    if (leaked > 0) return `leaks ${leaked} tensor${leaked > 1 ? 's' : ''}`;
    if (leaked < 0) return 'disposes tensors that it was given or returns';
    return undefined;
  } catch (error) {
    return `throws ${String(error).replaceAll('\n', ' ')}`;
  } finally {
    dispose(given.filter((input) => !input.isDisposed));
  }
}

/** By how much those numbers may differ that may at all. */
function openNumbers({ by }: Undetermined): number[] {
  return Array.from(by).filter((bound) => bound > 0);
}

function openIn(name: string, output: Undetermined): string {
  const open = openNumbers(output);
  return `${name}: ${open.length} numbers are compared to within ${Math.max(...open)}: ${output.why}`;
}

function summary(mismatches: readonly Mismatch[]): string {
  const { place, got, expected } = worst(mismatches);
  const more = mismatches.length > 1 ? ` (the worst of ${mismatches.length} differences)` : '';
  return `${place} is ${got}, expected ${expected}${more}`;
}

function decode(value: GoldenJson): GoldenInput {
  if (isJsonTensor(value)) return decodeTensor(value);
  if (Array.isArray(value)) return value.map(decode);
  if (isRecord(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decode(item as GoldenJson)]));
  }
  return value;
}

function decodeTensor({ shape, data, dtype = 'float32' }: JsonTensor): Tensor {
  const numbers = data.map(Number);
  if (dtype.startsWith('bool')) return tensor(Uint8Array.from(numbers), shape, 'bool');
  if (dtype.startsWith('float')) return tensor(Float32Array.from(numbers), shape, 'float32');
  return tensor(Int32Array.from(numbers), shape, 'int32');
}

function tensorsIn(value: unknown): Tensor[] {
  return tensor_util.getTensorsInContainer(value as Parameters<typeof tensor_util.getTensorsInContainer>[0]);
}
