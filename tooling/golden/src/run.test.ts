import '@tensorflow/tfjs-backend-cpu';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { add, cast, memory, mul, reshape, type Tensor, tensor, tidy } from '@ashlar/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defineGolden, type GoldenEntries, Undetermined } from './define-golden.ts';
import { runGolden, type Totals } from './run.ts';

let folder: string;
let lines: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'golden-'));
  lines = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

const x = { shape: [2, 2], data: [1, 2, 3, 4] };
const doubled = { shape: [2, 2], data: [2, 4, 6, 8] };

/** A case of `toy/f` with inputs `x` and outputs `y`, some of its fields replaced. */
function write(fields: object = {}, name = 'case.json'): void {
  const golden = {
    method: 'toy',
    function: 'f',
    case: 'a',
    inputs: { x },
    outputs: { y: doubled },
    tolerance: { rtol: 1e-4, atol: 1e-6 },
  };
  writeFileSync(join(folder, name), JSON.stringify({ ...golden, ...fields }));
}

function replayAll(f: GoldenEntries[string], method?: string): Promise<Totals> {
  const entries = new Map(Object.entries(defineGolden({ 'toy/f': f })));
  return runGolden({ paths: [folder], backends: ['cpu'], method, entries, log: (line) => lines.push(line) });
}

const twice = ({ x }: { x: Tensor }) => ({ y: mul(x, 2) });

/** Runs the one case written and returns the line about its failure. */
async function failureOf(f: GoldenEntries[string]): Promise<string> {
  expect(await replayAll(f)).toEqual({ passed: 0, failed: 1, unknown: 0 });
  expect(lines).toHaveLength(1);
  return lines[0];
}

describe('a case', () => {
  it('passes with the right numbers, and nothing is left in memory', async () => {
    write();
    const before = memory().numTensors;
    expect(await replayAll(twice)).toEqual({ passed: 1, failed: 0, unknown: 0 });
    expect(lines).toEqual([]);
    expect(memory().numTensors).toBe(before);
  });

  it('may leave numbers open, which is said', async () => {
    write();
    const open =
      (by: number[]) =>
      async ({ x }: { x: Tensor }) => ({
        y: new Undetermined(tensor([2.5, 4, 6, 8], x.shape as [number, number]), by, 'anything goes'),
      });
    expect(await replayAll(open([0.5, 0, 0, 0]))).toEqual({ passed: 1, failed: 0, unknown: 0 });
    expect(lines).toEqual(['open toy/f a: y: 1 numbers are compared to within 0.5: anything goes']);
    for (const by of [[0.4], [0, 0.5, 0.5, 0.5], []]) {
      lines = [];
      expect(await replayAll(open(by))).toEqual({ passed: 0, failed: 1, unknown: 0 });
      expect(lines.at(0)).toMatch(/y\[0, 0\] is 2.5, expected 2/);
    }
  });

  it('may be asynchronous and may return an input', async () => {
    write({ outputs: { y: x } });
    expect((await replayAll(async ({ x }: { x: Tensor }) => ({ y: x }))).passed).toBe(1);
  });

  it('fails on a wrong number, naming the worst element', async () => {
    write();
    const line = await failureOf(({ x }: { x: Tensor }) => ({
      y: tidy(() => add(mul(x, 2), tensor([0, 0.01, 0, 0.5], [2, 2]))),
    }));
    expect(line).toContain('toy/f a: y[1, 1] is 8.5, expected 8 (the worst of 2 differences)');
    expect(line).toContain(join(folder, 'case.json'));
  });

  it('fails just outside the tolerance and passes just inside', async () => {
    write({ outputs: { y: 1 }, tolerance: { rtol: 0.01, atol: 0.01 } });
    expect(await failureOf(() => ({ y: 1.0201 }))).toContain('y is 1.0201, expected 1');
    expect((await replayAll(() => ({ y: 1.0199 }))).passed).toBe(1);
  });

  it('fails on an additional dimension', async () => {
    write();
    const line = await failureOf(({ x }: { x: Tensor }) => ({ y: tidy(() => reshape(mul(x, 2), [1, 2, 2])) }));
    expect(line).toContain('y is a tensor of shape [1, 2, 2], expected a tensor of shape [2, 2]');
  });

  it('fails on NaN and on infinity, whatever the tolerance', async () => {
    write({ tolerance: { rtol: 1e9, atol: 1e9 } });
    expect(await failureOf(() => ({ y: tensor([2, Number.NaN, 6, 8], [2, 2]) }))).toContain('y[0, 1] is NaN');
    lines = [];
    expect(await failureOf(() => ({ y: tensor([2, 4, 6, Infinity], [2, 2]) }))).toContain('y[1, 1] is Infinity');
  });

  it('accepts NaN and infinities where they are expected, in both spellings', async () => {
    write({ outputs: { y: { shape: [3], data: ['NaN', 'Infinity', '-Infinity'] } } }, 'quoted.json');
    const bare = '{"y": {"shape": [3], "data": [NaN, Infinity, -Infinity]}, "label": "NaN, \\"or Infinity"}';
    const head = '{"method": "toy", "function": "f", "case": "b", "tolerance": {"rtol": 0, "atol": 0}';
    writeFileSync(join(folder, 'bare.json'), `${head}, "inputs": {"label": true}, "outputs": ${bare}}`);
    const y = () => tensor([Number.NaN, Infinity, -Infinity]);
    const totals = await replayAll(({ label }) => (label ? { y: y(), label: 'NaN, "or Infinity' } : { y: y() }));
    expect(totals).toEqual({ passed: 2, failed: 0, unknown: 0 });
  });

  it('fails on missing and on additional outputs', async () => {
    write();
    expect(await failureOf(() => ({}))).toContain('y is missing, expected a tensor of shape [2, 2]');
    lines = [];
    const line = await failureOf(({ x }: { x: Tensor }) => ({ y: mul(x, 2), z: 1 }));
    expect(line).toContain('z is 1, expected no such output');
  });

  it('fails when it leaks, disposes its inputs or throws', async () => {
    write();
    expect(await failureOf(({ x }: { x: Tensor }) => ({ y: add(x, mul(x, 1)) }))).toContain('leaks 1 tensor');
    lines = [];
    const disposes = ({ x }: { x: Tensor }) => {
      const y = mul(x, 2);
      x.dispose();
      return { y };
    };
    expect(await failureOf(disposes)).toContain('disposes tensors');
    lines = [];
    const throws = () => {
      throw new RangeError('too\nlong');
    };
    expect(await failureOf(throws)).toContain('throws RangeError: too long');
  });

  it('compares whole numbers, int32 tensors, strings, booleans and null exactly, lists elementwise', async () => {
    const tolerance = { rtol: 1, atol: 1 };
    const y = { n: 3, s: 'a', b: true, none: null, list: [[1], [2, 'c']], index: { shape: [2], data: [1, 2] } };
    write({ outputs: { y }, tolerance });
    const right = { n: 3, s: 'a', b: true, none: null, list: [[1], [2, 'c']] };
    const index = () => tensor([1, 2], [2], 'int32');
    expect((await replayAll(() => ({ y: { ...right, index: index() } }))).passed).toBe(1);
    const wrong: [object, string][] = [
      [{ n: 4 }, 'y.n is 4, expected 3'],
      [{ s: 'b' }, 'y.s is "b", expected "a"'],
      [{ b: 1 }, 'y.b is 1, expected true'],
      [{ none: 0 }, 'y.none is 0, expected null'],
      [{ list: [[1], [2, 'd']] }, 'y.list[1][1] is "d", expected "c"'],
      [{ list: [[1]] }, 'y.list is a list of 1, expected a list of 2'],
    ];
    for (const [change, message] of wrong) {
      lines = [];
      expect(await failureOf(() => ({ y: { ...right, index: index(), ...change } }))).toContain(message);
    }
    lines = [];
    const off = () => ({ y: { ...right, index: tensor([1, 3], [2], 'int32') } });
    expect(await failureOf(off)).toContain('y.index[1] is 3, expected 2');
  });

  it('gives tensors the dtype of the file, and raw values in float64', async () => {
    const third = { shape: [], data: [1 / 3] };
    write({ inputs: { i: { ...x, dtype: 'int64' }, third }, outputs: { dtype: 'int32', third, cast: x } });
    const totals = await replayAll(({ i }: { i: Tensor }, raw) => ({
      dtype: i.dtype,
      third: raw.third as { shape: number[]; data: number[] },
      cast: cast(i, 'float32'),
    }));
    expect(totals.passed).toBe(1);
  });
});

describe('a folder', () => {
  it('counts functions nobody registered as unknown, without failing', async () => {
    write();
    write({ function: 'g' }, 'g.json');
    expect(await replayAll(twice)).toEqual({ passed: 1, failed: 0, unknown: 1 });
    expect(lines).toEqual(['unknown toy: g']);
  });

  it('can be narrowed to one method', async () => {
    write();
    write({ method: 'other' }, 'other.json');
    expect(await replayAll(twice, 'toy')).toEqual({ passed: 1, failed: 0, unknown: 0 });
  });

  it('reports malformed files in one line each and counts them as failed', async () => {
    const malformed: [string, object | string, string][] = [
      ['1.json', '{"method": "toy", ', 'not JSON'],
      ['2.json', '[]', 'expected an object'],
      ['3.json', { function: 7 }, 'function must be a non-empty string'],
      ['4.json', { inputs: { w: [{ shape: [3], data: [1, 2] }] } }, 'inputs.w[0]: shape [3] needs 3 numbers'],
      ['5.json', { outputs: { y: { shape: [-1], data: [] } } }, 'outputs.y: shape must be a list of integers >= 0'],
      ['6.json', { outputs: { y: { shape: [1], data: ['x'] } } }, 'outputs.y: data must be a flat list of numbers'],
      ['7.json', { tolerance: { rtol: 1e-4 } }, 'tolerance.atol must be a number >= 0'],
      ['8.json', { inputs: { w: { shape: [0], data: [], dtype: 'complex64' } } }, 'dtype must be a float, int or bool'],
    ];
    for (const [name, content] of malformed) {
      if (typeof content === 'string') writeFileSync(join(folder, name), content);
      else write(content, name);
    }
    write();
    expect(await replayAll(twice)).toEqual({ passed: 1, failed: malformed.length, unknown: 0 });
    malformed.forEach(([name, , message], i) => {
      expect(lines[i]).toContain(`FAIL ${join(folder, name)}: `);
      expect(lines[i]).toContain(message);
    });
  });
});
