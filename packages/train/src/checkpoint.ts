import {
  dispose,
  FormatError,
  loadSafetensors,
  makeFolder,
  nodeModule,
  quote,
  type StateDict,
  saveSafetensors,
  type Tensor,
  writeFileAtomic,
} from '@ashlar/tensor';
import type { Json } from './json.ts';
import { codeOf, writeError } from './write-error.ts';

const PURPOSE = 'Writing checkpoints';
const SUMS = 'SHA256SUMS';
const STATE = 'state.json';

/** All that a run needs to continue: groups of tensors, each a safetensors file of that name, and plain state. */
export interface Checkpoint {
  readonly tensors: Readonly<Record<string, StateDict>>;
  readonly state: { readonly [key: string]: Json };
}

/** A checkpoint's place. */
export interface CheckpointEntry {
  readonly step: number;
  readonly path: string;
}

/**
 * Writes `<folder>/step-000123`, whole or not at all: everything goes to `step-000123.tmp`, is flushed to the disk and
 * then renamed. Older checkpoints beyond the `keep` newest are removed afterwards, so that a kill at any moment leaves a
 * loadable one. `SHA256SUMS` (as `sha256sum -c` reads it) tells later whether all of it is as it was. Node only.
 * @returns the checkpoint's path.
 * @throws AshlarError naming the path and the remedy where the disk is full, the folder not writable ….
 */
export async function writeCheckpoint(
  folder: string,
  step: number,
  checkpoint: Checkpoint,
  options: { keep: number },
): Promise<string> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  const { join } = nodeModule('node:path', PURPOSE);
  await removeLeftovers(folder);
  const path = join(folder, `step-${String(step).padStart(6, '0')}`);
  const temporary = `${path}.tmp`;
  try {
    await makeFolder(temporary);
    const files: string[] = [];
    for (const [name, tensors] of Object.entries(checkpoint.tensors)) {
      files.push(`${name}.safetensors`);
      await saveSafetensors(join(temporary, `${name}.safetensors`), tensors);
    }
    files.push(STATE);
    await writeFileAtomic(join(temporary, STATE), `${JSON.stringify(checkpoint.state, undefined, 2)}\n`);
    const sums = await Promise.all(files.map(async (file) => `${await sha256(join(temporary, file))}  ${file}\n`));
    await writeFileAtomic(join(temporary, SUMS), sums);
    // A damaged checkpoint of this step may be in the way; the one that the run continued from is another.
    if (await exists(path)) await fs.rename(path, `${path}.old.tmp`);
    await fs.rename(temporary, path);
    await syncFolder(folder);
    for (const old of (await listCheckpoints(folder)).filter((entry) => entry.step <= step).slice(options.keep)) {
      await fs.rename(old.path, `${old.path}.old.tmp`);
    }
    await removeLeftovers(folder);
  } catch (error) {
    await fs.rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw writeError(path, 'the checkpoint', error);
  }
  return path;
}

/** The checkpoints of a folder, newest first; none if there is no such folder. Node only. */
export async function listCheckpoints(folder: string): Promise<CheckpointEntry[]> {
  const { join } = nodeModule('node:path', PURPOSE);
  const entries: CheckpointEntry[] = [];
  for (const name of await filesOf(folder)) {
    const match = /^step-(\d{6,15})$/.exec(name);
    if (match !== null) entries.push({ step: Number(match[1]), path: join(folder, name) });
  }
  return entries.sort((a, b) => b.step - a.step);
}

/**
 * Reads a checkpoint after comparing every file with its checksum. The caller disposes of the tensors. Node only.
 * @throws FormatError naming the file that is missing or damaged.
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  const { join } = nodeModule('node:path', PURPOSE);
  const files = parseSums(join(path, SUMS), await readText(join(path, SUMS)));
  for (const [file, sum] of files) {
    const actual = await sha256(join(path, file)).catch((error) => Promise.reject(damaged(join(path, file), error)));
    if (actual !== sum) throw damaged(join(path, file), `its SHA-256 is not the one in ${SUMS}`);
  }
  if (!files.has(STATE)) throw damaged(join(path, SUMS), `it does not list ${STATE}`);
  const state = parseState(join(path, STATE), await fs.readFile(join(path, STATE), 'utf8'));
  const tensors: Record<string, Map<string, Tensor>> = {};
  try {
    for (const file of files.keys()) {
      if (file.endsWith('.safetensors')) {
        tensors[file.slice(0, -'.safetensors'.length)] = await loadSafetensors(join(path, file));
      }
    }
  } catch (error) {
    disposeCheckpoint({ tensors, state });
    throw error;
  }
  return { tensors, state };
}

export function disposeCheckpoint({ tensors }: Checkpoint): void {
  for (const group of Object.values(tensors)) dispose([...group.values()]);
}

/** @throws AshlarError naming the remedy unless files can be made in the folder, which is made if it is not there. */
export async function checkWritable(folder: string): Promise<void> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  const { join } = nodeModule('node:path', PURPOSE);
  const probe = join(folder, 'step-probe.tmp');
  try {
    await makeFolder(folder);
    await fs.mkdir(probe, { recursive: true });
    await fs.rmdir(probe);
  } catch (error) {
    throw writeError(folder, 'the folder of checkpoints', error);
  }
}

async function removeLeftovers(folder: string): Promise<void> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  const { join } = nodeModule('node:path', PURPOSE);
  for (const name of await filesOf(folder)) {
    if (/^step-.*\.tmp$/.test(name)) await fs.rm(join(folder, name), { recursive: true, force: true });
  }
}

async function filesOf(folder: string): Promise<string[]> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  try {
    return await fs.readdir(folder);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw new FormatError(`${folder}: cannot be listed (${codeOf(error)}). Name a folder that can be read.`, {
      cause: error,
    });
  }
}

async function exists(path: string): Promise<boolean> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  return fs.stat(path).then(
    () => true,
    () => false,
  );
}

async function syncFolder(folder: string): Promise<void> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  // Some systems cannot open or flush a folder, and need not.
  const handle = await fs.open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

async function sha256(path: string): Promise<string> {
  const { createReadStream } = nodeModule('node:fs', PURPOSE);
  const { pipeline } = nodeModule('node:stream/promises', PURPOSE);
  const hash = nodeModule('node:crypto', PURPOSE).createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function readText(path: string): Promise<string> {
  const fs = nodeModule('node:fs/promises', PURPOSE);
  return fs.readFile(path, 'utf8').catch((error) => Promise.reject(damaged(path, error)));
}

function parseSums(path: string, text: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split('\n').filter((part) => part !== '')) {
    const match = /^([0-9a-f]{64}) {2}([A-Za-z0-9_-]+\.(?:safetensors|json))$/.exec(line);
    if (match === null) throw damaged(path, `its line ${quote(line)} is no checksum`);
    sums.set(match[2], match[1]);
  }
  return sums;
}

function parseState(path: string, text: string): { readonly [key: string]: Json } {
  try {
    const state: unknown = JSON.parse(text);
    if (typeof state === 'object' && state !== null && !Array.isArray(state)) return state as Record<string, Json>;
  } catch (error) {
    throw damaged(path, error);
  }
  throw damaged(path, 'it is not a JSON object');
}

function damaged(path: string, reason: unknown): FormatError {
  const why = codeOf(reason) === 'ENOENT' ? 'it is missing' : reason instanceof Error ? reason.message : String(reason);
  return new FormatError(`${path}: this checkpoint is damaged: ${why}. Remove its folder to use the one before.`, {
    cause: reason instanceof Error ? reason : undefined,
  });
}
