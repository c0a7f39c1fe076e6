import { Tensor } from '@tensorflow/tfjs-core';

/**
 * Tensors in arrays, plain objects and maps, with plain values between them: what functions under `jit` take and return.
 */
export interface Flat {
  tensors: Tensor[];
  /** The structure with shapes, types and plain values: equal for trees that one graph can serve. */
  signature: string;
}

/** @throws TypeError naming the place of a value of another kind. */
export function flatten(tree: unknown, name: string): Flat {
  const tensors: Tensor[] = [];
  const signature = describe(tree, name, tensors);
  return { tensors, signature };
}

function describe(node: unknown, path: string, tensors: Tensor[]): string {
  if (node instanceof Tensor) {
    tensors.push(node);
    return `${node.dtype}[${node.shape}]`;
  }
  if (isPlain(node)) return typeof node === 'string' ? JSON.stringify(node) : Object.is(node, -0) ? '-0' : `${node}`;
  const parts = children(node, path).map(([key, child]) => `${key}:${describe(child, `${path}.${key}`, tensors)}`);
  return `${node instanceof Map ? 'Map' : Array.isArray(node) ? 'Array' : ''}{${parts.join()}}`;
}

/** `tree` with its tensors replaced, in the order in which `flatten` finds them. */
export function rebuild<T>(tree: T, next: () => Tensor): T {
  return replace(tree, next) as T;
}

function replace(node: unknown, next: () => Tensor): unknown {
  if (node instanceof Tensor) return next();
  if (isPlain(node)) return node;
  const entries = children(node, '').map(([key, child]) => [key, replace(child, next)] as const);
  if (node instanceof Map) return new Map(entries);
  return Array.isArray(node) ? entries.map(([, child]) => child) : Object.fromEntries(entries);
}

function isPlain(node: unknown): node is null | undefined | number | string | boolean {
  return node == null || typeof node === 'number' || typeof node === 'string' || typeof node === 'boolean';
}

function children(node: unknown, path: string): [string, unknown][] {
  if (Array.isArray(node)) return node.map((child, i) => [String(i), child]);
  if (node instanceof Map) return [...node].map(([key, child]) => [String(key), child]);
  if (typeof node === 'object' && node !== null && Object.getPrototypeOf(node) === Object.prototype) {
    return Object.entries(node);
  }
  const kind = typeof node === 'object' ? `a ${node?.constructor.name}` : `a ${typeof node}`;
  throw new TypeError(
    `${path} is ${kind}; under jit it may be a tensor, a number, string or boolean, or an array, plain object or Map of these`,
  );
}
