import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const cli = fileURLToPath(new URL('cli.ts', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'golden-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function golden(...args: string[]): { status: number | null; lines: string[]; stderr: string } {
  const node = ['--conditions=@ashlar/source', '--import', import.meta.resolve('tsx'), cli];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...node, ...args], { encoding: 'utf8' });
  return { status, lines: stdout.trimEnd().split('\n'), stderr };
}

it('ends with the totals; unknown cases do not fail, malformed files do', () => {
  const tolerance = { rtol: 0, atol: 0 };
  const unknown = { method: 'no-such-method', function: 'f', case: 'a', inputs: {}, outputs: {}, tolerance };
  writeFileSync(join(folder, 'unknown.json'), JSON.stringify(unknown));
  const clean = golden(folder);
  expect(clean.lines.slice(-2)).toEqual(['unknown no-such-method: f', '0 passed, 0 failed, 1 unknown']);
  expect(clean.status).toBe(0);

  writeFileSync(join(folder, 'malformed.json'), '{');
  const failing = golden(folder, '--backend', 'cpu');
  expect(failing.lines.at(-1)).toBe('0 passed, 1 failed, 1 unknown');
  expect(failing.status).toBe(1);
});

it('explains itself and refuses what it does not know', () => {
  expect(golden('--help').lines.join('\n')).toContain('--backend <name>');
  expect(golden('--backend', 'gpu')).toMatchObject({ status: 1, stderr: expect.stringContaining('cpu, ort, webgpu') });
  expect(golden(join(folder, 'missing')).stderr).toContain('no such file or folder');
});
