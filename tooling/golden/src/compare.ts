import { Tensor } from '@ashlar/tensor';
import { type GoldenJson, type GoldenOutput, Undetermined } from './define-golden.ts';
import { isJsonTensor, isRecord, type JsonTensor } from './golden-json.ts';

export interface Tolerance {
  rtol: number;
  atol: number;
}

/** One value that differs: where, what came, what was expected, and by how much it misses the tolerance. */
export interface Mismatch {
  place: string;
  got: string;
  expected: string;
  excess: number;
}

/** float32 holds every whole number up to here. */
const EXACT_INTEGERS = 2 ** 24;

/**
 * All differences between an expected value and what came. Numbers agree when `|got - expected| <= atol + rtol *
 * |expected|`; integers (elements of int32 and bool tensors; outside tensors two whole numbers), strings, booleans and
 * null must be equal, shapes and lengths too; a missing or an additional output is a difference.
 */
export function compare(expected: GoldenJson, got: GoldenOutput, tolerance: Tolerance, place = ''): Mismatch[] {
  const structural = (gotText: string, expectedText: string): Mismatch[] => [
    { place, got: gotText, expected: expectedText, excess: Number.POSITIVE_INFINITY },
  ];
  if (got === undefined) return structural('missing', describe(expected));
  if (isJsonTensor(expected)) {
    const [value, open] = got instanceof Undetermined ? [got.value, got.by] : [got, []];
    const actual = asTensor(value);
    if (!actual) return structural(describe(got), describe(expected));
    return compareTensors(expected, actual, tolerance, place, open);
  }
  if (Array.isArray(expected)) {
    const actual = asList(got);
    if (!actual) return structural(describe(got), describe(expected));
    if (actual.length !== expected.length) {
      return structural(`a list of ${actual.length}`, `a list of ${expected.length}`);
    }
    return expected.flatMap((item, i) => compare(item, actual[i], tolerance, `${place}[${i}]`));
  }
  if (isRecord(expected)) {
    if (!isRecord(got) || got instanceof Tensor || ArrayBuffer.isView(got)) {
      return structural(describe(got), describe(expected));
    }
    const actual = got as { [name: string]: GoldenOutput };
    const inside = (key: string): string => (place ? `${place}.${key}` : key);
    const additional = Object.keys(actual).filter((key) => !Object.hasOwn(expected, key) && actual[key] !== undefined);
    return [
      ...Object.keys(expected).flatMap((key) => compare(expected[key], actual[key], tolerance, inside(key))),
      ...additional.map((key) => ({
        place: inside(key),
        got: describe(actual[key]),
        expected: 'no such output',
        excess: Number.POSITIVE_INFINITY,
      })),
    ];
  }
  if (typeof expected === 'number') {
    const actual = got instanceof Tensor && got.size === 1 && got.rank === 0 ? Number(got.dataSync()[0]) : got;
    if (typeof actual !== 'number') return structural(describe(got), describe(expected));
    const exact =
      Number.isInteger(expected) && Number.isInteger(actual) && Math.abs(expected as number) <= EXACT_INTEGERS;
    const excess = excessOf(actual, expected, exact ? { rtol: 0, atol: 0 } : tolerance);
    return excess > 0 ? [{ place, got: String(actual), expected: String(expected), excess }] : [];
  }
  return got === expected ? [] : structural(describe(got), describe(expected));
}

/** The difference to report when only one can be: of structure first, then the one furthest out of tolerance. */
export function worst(mismatches: readonly Mismatch[]): Mismatch {
  return mismatches.reduce((a, b) => (b.excess > a.excess ? b : a));
}

/** @param open by how much more than the tolerance an element may differ, where it may. */
function compareTensors(
  expected: JsonTensor,
  actual: JsonTensor,
  tolerance: Tolerance,
  place: string,
  open: ArrayLike<number>,
): Mismatch[] {
  if (String(actual.shape) !== String(expected.shape)) {
    return [{ place, got: describe(actual), expected: describe(expected), excess: Number.POSITIVE_INFINITY }];
  }
  const exact = actual.dtype === 'int32' || actual.dtype === 'bool';
  const allowed = exact ? { rtol: 0, atol: 0 } : tolerance;
  const mismatches: Mismatch[] = [];
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(actual.data[i]), Number(expected.data[i])];
    const excess = excessOf(a, b, { ...allowed, atol: allowed.atol + (open[i] ?? 0) });
    if (excess > 0) {
      const index = indexOf(i, expected.shape);
      mismatches.push({ place: `${place}[${index}]`, got: String(a), expected: String(b), excess });
    }
  }
  return mismatches;
}

/** How far beyond its tolerance a number is; 0 where it agrees. */
function excessOf(actual: number, expected: number, { rtol, atol }: Tolerance): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  if (!Number.isFinite(actual) || !Number.isFinite(expected)) return Number.POSITIVE_INFINITY;
  return Math.max(0, Math.abs(actual - expected) - (atol + rtol * Math.abs(expected)));
}

function asTensor(value: GoldenOutput): JsonTensor | undefined {
  if (value instanceof Tensor) return { shape: value.shape, data: Array.from(value.dataSync()), dtype: value.dtype };
  if (isJsonTensor(value)) return { shape: Array.from(value.shape), data: Array.from(value.data), dtype: value.dtype };
  return typeof value === 'number' ? { shape: [], data: [value] } : undefined;
}

function asList(value: GoldenOutput): readonly GoldenOutput[] | undefined {
  if (value instanceof Tensor) return value.rank > 0 ? (value.arraySync() as GoldenOutput[]) : undefined;
  if (Array.isArray(value)) return value;
  return ArrayBuffer.isView(value) ? Array.from(value as Float64Array) : undefined;
}

function indexOf(flat: number, shape: readonly number[]): string {
  const index: number[] = [];
  let rest = flat;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return index.join(', ');
}

function describe(value: unknown): string {
  if (value instanceof Tensor || isJsonTensor(value)) return `a tensor of shape [${value.shape.join(', ')}]`;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    return `a list of ${Array.isArray(value) ? value.length : value.byteLength / (value as Uint8Array).BYTES_PER_ELEMENT}`;
  }
  if (isRecord(value)) return `an object of ${Object.keys(value).join(', ') || 'nothing'}`;
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
