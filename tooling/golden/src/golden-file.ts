import { readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError } from '@ashlar/tensor';
import type { GoldenJson } from './define-golden.ts';
import { type GoldenCase, isJsonTensor, isRecord } from './golden-json.ts';

/** Every `.json` file in `path` and the folders below, sorted; a file stands for itself. */
export async function findGoldenFiles(path: string): Promise<string[]> {
  if (statSync(path).isFile()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.json'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Reads one golden file; throws a `FormatError` that names the file and the place in it. */
export function readGoldenFile(path: string): GoldenCase {
  const fail = (problem: string): never => {
    throw new FormatError(`${path}: ${problem}`);
  };
  let json: unknown;
  try {
    json = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return fail(`not JSON: ${(error as Error).message.replaceAll('\n', ' ')}`);
  }
  if (!isRecord(json)) return fail('expected an object with method, function, inputs, outputs, tolerance');

  const text = (key: string): string => {
    const value = json[key];
    return typeof value === 'string' && value ? value : fail(`${key} must be a non-empty string`);
  };
  const values = (key: string): { [name: string]: GoldenJson } => {
    const value = json[key];
    if (!isRecord(value)) return fail(`${key} must be an object of named values`);
    checkTensors(value as GoldenJson, key, fail);
    return value as { [name: string]: GoldenJson };
  };
  const bound = (key: string): number => {
    const value = isRecord(json.tolerance) ? json.tolerance[key] : undefined;
    return typeof value === 'number' && value >= 0 ? value : fail(`tolerance.${key} must be a number >= 0`);
  };
  return {
    path,
    method: text('method'),
    function: text('function'),
    case: text('case'),
    description: typeof json.description === 'string' ? json.description : undefined,
    inputs: values('inputs'),
    outputs: values('outputs'),
    tolerance: { rtol: bound('rtol'), atol: bound('atol') },
  };
}

const nonFinite = new Map([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((x) => [String(x), x]));

/** JSON, and the bare `NaN` and `Infinity` that Python's json module writes; their quoted forms are numbers too. */
function parse(text: string): unknown {
  const quoted = text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (token) =>
    token.startsWith('"') ? token : `"${token}"`,
  );
  return JSON.parse(quoted, (_key, value) => (typeof value === 'string' ? (nonFinite.get(value) ?? value) : value));
}

function checkTensors(value: GoldenJson, place: string, fail: (problem: string) => never): void {
  if (isJsonTensor(value)) {
    const { shape, data, dtype } = value as Record<string, unknown>;
    if (!Array.isArray(shape) || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      fail(`${place}: shape must be a list of integers >= 0`);
    } else if (!Array.isArray(data) || !data.every((x) => typeof x === 'number' || typeof x === 'boolean')) {
      fail(`${place}: data must be a flat list of numbers`);
    } else if (dtype !== undefined && (typeof dtype !== 'string' || !/^(float|int|uint|bool)\d*$/.test(dtype))) {
      fail(`${place}: dtype must be a float, int or bool type, but is ${JSON.stringify(dtype)}`);
    } else {
      const size = shape.reduce((product: number, n: number) => product * n, 1);
      if (size !== data.length) fail(`${place}: shape [${shape}] needs ${size} numbers, but data has ${data.length}`);
    }
  } else if (Array.isArray(value)) {
    value.forEach((item, i) => {
      checkTensors(item, `${place}[${i}]`, fail);
    });
  } else if (isRecord(value)) {
    for (const [key, item] of Object.entries(value)) checkTensors(item as GoldenJson, `${place}.${key}`, fail);
  }
}
