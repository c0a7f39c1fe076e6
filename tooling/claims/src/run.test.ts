import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { codeVersion } from './code-version.ts';
import { type Claim, defineClaim } from './define-claim.ts';
import { type ClaimRecord, readRecord, recordPath } from './record.ts';
import { renderClaims } from './render.ts';
import { runClaim } from './run.ts';

let folder: string;
let path: string;
let seedsRun: number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'claims-'));
  path = join(folder, 'toy.ts');
  writeFileSync(path, 'export default 1;');
  seedsRun = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The method gains 10 over a baseline of 1, 2 and 3. */
const toy = (change: Partial<Claim> = {}): Claim =>
  defineClaim({
    slug: 'toy',
    title: 'Toy: it helps',
    source: 'Toy et al., 2020, arXiv:2001.00001',
    statement: 'The toy gains at least 5 points.',
    baselines: ['plain'],
    seeds: [1, 2, 3],
    run: async ({ seed, log }) => {
      seedsRun.push(seed);
      log('half way');
      return { 'plain/accuracy %': seed, 'toy/accuracy %': seed + 10, 'toy/parameters': 12 };
    },
    verdict: (results) => ({
      verdict: results['toy/accuracy %'].mean - results['plain/accuracy %'].mean >= 5 ? 'reproduced' : 'not reproduced',
      reason: `+${results['toy/accuracy %'].mean - results['plain/accuracy %'].mean} points.`,
    }),
    ...change,
  });

function run(claim: Claim, fresh = false, lines: string[] = []): Promise<ClaimRecord> {
  return runClaim(claim, { path, folder, backend: 'cpu', fresh, log: (line) => lines.push(line) });
}

describe('runClaim', () => {
  it('measures every seed, with progress, and keeps the record', async () => {
    const lines: string[] = [];
    const record = await run(toy(), false, lines);
    expect(seedsRun).toEqual([1, 2, 3]);
    expect(record.results?.['plain/accuracy %']).toEqual({ mean: 2, spread: 1, values: [1, 2, 3] });
    expect(record.outcome).toEqual({ verdict: 'reproduced', reason: '+10 points.' });
    expect(record.versions.node).toBe(process.versions.node);
    expect(lines.filter((line) => line.includes('toy seed 2 (2/3): half way'))).toHaveLength(1);
    expect(readRecord(recordPath(folder, 'toy'))).toEqual(record);
  });

  it('resumes with the seeds that are missing', async () => {
    const interrupted = toy({
      run: async (context) => {
        if (context.seed === 3) throw new Error('interrupted');
        return toy().run(context);
      },
    });
    await expect(run(interrupted)).rejects.toThrow('interrupted');
    expect(readRecord(recordPath(folder, 'toy'))?.outcome).toBeUndefined();
    await run(toy());
    expect(seedsRun).toEqual([1, 2, 3]);
  });

  it('measures again when the code has changed or on request, and not when only a comment has', async () => {
    const first = await run(toy());
    writeFileSync(path, '// A comment.\nexport default 1;');
    expect(await run(toy())).toEqual(first);
    expect(seedsRun).toHaveLength(3);
    writeFileSync(path, 'export default 2;');
    await run(toy());
    expect(seedsRun).toHaveLength(6);
    await run(toy(), true);
    expect(seedsRun).toHaveLength(9);
  });

  it('refuses numbers that are not finite, missing baselines and seeds that measure different things', async () => {
    await expect(run(toy({ run: async () => ({ plain: Number.NaN }) }))).rejects.toThrow("'plain' is NaN");
    await expect(run(toy({ run: async () => ({ toy: 1 }) }))).rejects.toThrow("the baseline 'plain'");
    const uneven = toy({
      run: async ({ seed }): Promise<Record<string, number>> => (seed === 3 ? { plain: 1, b: 1 } : { plain: 1 }),
    });
    await expect(run(uneven)).rejects.toThrow("'b'");
  });
});

it('defineClaim refuses fewer than three seeds, no baseline and odd slugs', () => {
  expect(() => toy({ seeds: [1, 1, 2] })).toThrow('at least 3 different seeds');
  expect(() => toy({ baselines: [] })).toThrow('at least one baseline');
  expect(() => toy({ slug: 'Toy' })).toThrow('lower-case');
});

it('codeVersion follows imports into the workspace', async () => {
  writeFileSync(join(folder, 'part.ts'), 'export const x = 1;');
  writeFileSync(path, "import { x } from './part.ts';\nimport 'vitest';\nexport default x;");
  const version = await codeVersion(path);
  writeFileSync(join(folder, 'part.ts'), 'export const x = 2;');
  expect(await codeVersion(path)).not.toBe(version);
});

it('renderClaims makes one page of all records', async () => {
  const page = renderClaims([await run(toy())]);
  expect(page).toContain('[Toy: it helps](#toy-it-helps)');
  expect(page).toMatch(/\| plain \(baseline\) \| 2 ± 1 +\| +\|/);
  expect(page).toMatch(/\| toy +\| 12 ± 1 +\| 12 ± 0 +\|/);
  expect(page).toContain('**Reproduced.** +10 points.');
  const { outcome, results, ...unfinished } = JSON.parse(readFileSync(recordPath(folder, 'toy'), 'utf8'));
  expect(renderClaims([{ ...unfinished, runs: unfinished.runs.slice(1) }])).toContain('unfinished (2 of 3 seeds)');
});
