import { useBackend } from '../../workspace/src/backend.ts';
import type { GoldenFunction } from './define-golden.ts';
import { findGoldenFiles, readGoldenFile } from './golden-file.ts';
import type { GoldenCase } from './golden-json.ts';
import { replay } from './replay.ts';

export interface RunOptions {
  /** Folders (searched recursively) and files. */
  paths: readonly string[];
  backends: readonly string[];
  /** Only this method's cases. */
  method?: string;
  entries: ReadonlyMap<string, GoldenFunction>;
  log(line: string): void;
}

export interface Totals {
  passed: number;
  failed: number;
  unknown: number;
}

/**
 * Replays every golden file under `paths`. A case counts once: it passes if it does so on every backend. Logs a line
 * for each failure and, at the end, one for each output with numbers that its method leaves open and one for each method
 * that has functions nobody registered.
 */
export async function runGolden({ paths, backends, method, entries, log }: RunOptions): Promise<Totals> {
  const files = [...new Set((await Promise.all(paths.map(findGoldenFiles))).flat())];
  const failed = new Set<string>();
  const cases: GoldenCase[] = [];
  for (const file of files) {
    try {
      cases.push(readGoldenFile(file));
    } catch (error) {
      failed.add(file);
      log(`FAIL ${(error as Error).message}`);
    }
  }
  const wanted = method ? cases.filter((golden) => golden.method === method) : cases;
  const known = wanted.filter((golden) => entries.has(keyOf(golden)));
  const open = new Set<string>();
  for (const backend of known.length > 0 ? backends : []) {
    await useBackend(backend);
    for (const golden of known) {
      const call = entries.get(keyOf(golden)) as GoldenFunction;
      const problem = await replay(golden, call, (line) => open.add(`open ${keyOf(golden)} ${golden.case}: ${line}`));
      if (!problem) continue;
      failed.add(golden.path);
      log(`FAIL [${backend}] ${keyOf(golden)} ${golden.case}: ${problem} (${golden.path})`);
    }
  }
  for (const line of open) log(line);

  const unknown = wanted.filter((golden) => !entries.has(keyOf(golden)));
  for (const name of new Set(unknown.map((golden) => golden.method))) {
    const functions = new Set(unknown.filter((golden) => golden.method === name).map((golden) => golden.function));
    log(`unknown ${name}: ${[...functions].join(', ')}`);
  }
  const passed = known.filter((golden) => !failed.has(golden.path));
  return { passed: passed.length, failed: failed.size, unknown: unknown.length };
}

/** What a case is registered under. */
export function keyOf(golden: GoldenCase): string {
  return `${golden.method}/${golden.function}`;
}
