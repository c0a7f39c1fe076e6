import { createRequire } from 'node:module';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { root } from './packages.ts';

/** Where something was measured. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  platform: string;
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
  };
}

/** Versions of what numbers depend on: Node and the numeric libraries. */
export function versions(): Record<string, string> {
  const require = createRequire(join(root, 'packages/backend-ort/package.json'));
  const installed = (name: string): string => (require(`${name}/package.json`) as { version: string }).version;
  const libraries = ['@tensorflow/tfjs-core', 'onnxruntime-node'];
  return { node: process.versions.node, ...Object.fromEntries(libraries.map((name) => [name, installed(name)])) };
}
