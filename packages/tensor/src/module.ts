import { type Tensor, type TensorContainer, tidy } from '@tensorflow/tfjs-core';
import { ConfigError, closestNames } from './errors.ts';
import { Buffer, Parameter } from './parameter.ts';

/** Undoes a registration; calling `remove` again does nothing. */
export interface HookHandle {
  remove(): void;
}

/** Runs before `forward`; may return other arguments. */
export type ForwardPreHook<Args extends unknown[]> = (args: Args, module: AnyModule) => Args | undefined | void;
/** Runs after `forward`; may return another output. */
export type ForwardHook<Args extends unknown[], Out> = (
  output: Out,
  args: Args,
  module: AnyModule,
) => Out | undefined | void;

// biome-ignore lint/suspicious/noExplicitAny: a module of any signature; `unknown` would refuse contravariant arguments
export type AnyModule = Module<any[], any>;

// biome-ignore lint/suspicious/noExplicitAny: kept untyped so that every module is an `AnyModule`
type AnyHook = (...args: any[]) => any;

type Member = AnyModule | Parameter | Buffer;

/**
 * Base of every layer and model, as people know it from PyTorch.
 *
 * Parameters, buffers and child modules are plain properties, also inside arrays and plain objects
 * (`h: Block[]` gives the names `h.0`, `h.1` …). Subclasses write `forward`; callers use `apply`, which runs the hooks.
 * A reference to a parent or to a module that is not a child belongs in a `#private` field, which is not walked.
 */
export abstract class Module<Args extends unknown[] = [Tensor], Out = Tensor> {
  /** Set by `train()` and `eval()`; dropout and the like look at it. */
  training = true;
  readonly #preHooks: AnyHook[] = [];
  readonly #hooks: AnyHook[] = [];
  #hookChanges = 0;

  abstract forward(...args: Args): Out;

  /**
   * Runs the pre-hooks, `forward` and the hooks, each in the order of registration, in a `tidy`: the caller owns the
   * result, everything else made on the way is disposed of unless it was given to `keep`.
   */
  apply(...args: Args): Out {
    const run = (): Out => {
      let current = args;
      for (const hook of [...this.#preHooks]) current = hook(current, this) ?? current;
      let output = this.forward(...current);
      for (const hook of [...this.#hooks]) output = hook(output, current, this) ?? output;
      return output;
    };
    return tidy(run as () => TensorContainer) as Out;
  }

  /**
   * What decides, besides tensors, what `forward` computes: functions under `jit` are traced once for each value. A
   * module with switches of its own adds them.
   */
  signature(): string {
    const hooks = this.#preHooks.length + this.#hooks.length;
    return `${this.training ? 'train' : 'eval'}${hooks > 0 ? ` ${hooks} hooks, ${this.#hookChanges} so far` : ''}`;
  }

  /**
   * Parameters and buffers of this module and below that `forward` does not read as things stand (adapters that are
   * switched off): functions under `jit` do without them, so that what differs in them alone needs no other graph.
   */
  *idleSlots(): Generator<Parameter | Buffer> {}

  registerForwardPreHook(hook: ForwardPreHook<Args>): HookHandle {
    this.#hookChanges++;
    return register(this.#preHooks, hook);
  }

  registerForwardHook(hook: ForwardHook<Args, Out>): HookHandle {
    this.#hookChanges++;
    return register(this.#hooks, hook);
  }

  /** Direct child modules by name. */
  *namedChildren(): Generator<[string, AnyModule]> {
    for (const [name, member] of members(this)) if (member instanceof Module) yield [name, member];
  }

  /** This module (named `prefix`) and all below it, each once, parents first. */
  *namedModules(prefix = ''): Generator<[string, AnyModule]> {
    yield* walk(this, prefix, new Set());
  }

  /** All parameters below this module; a tied one is given once, under its first name. */
  *namedParameters(prefix = ''): Generator<[string, Parameter]> {
    yield* once(slots(this, prefix), Parameter);
  }

  *namedBuffers(prefix = ''): Generator<[string, Buffer]> {
    yield* once(slots(this, prefix), Buffer);
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** The parameters that training updates, by name: those with `requiresGrad`. */
  trainableParameters(): Map<string, Parameter> {
    return new Map([...this.namedParameters()].filter(([, parameter]) => parameter.requiresGrad));
  }

  /** @throws ConfigError naming the closest paths if there is no module at `path`. */
  getSubmodule(path: string): AnyModule {
    if (path === '') return this;
    const names: string[] = [];
    for (const [name, module] of this.namedModules()) {
      if (name === path) return module;
      names.push(name);
    }
    throw new ConfigError(`No module '${path}' in this model. Closest names: ${closestNames(path, names).join(', ')}.`);
  }

  /** @throws ConfigError naming the closest names if there is no parameter of that name. */
  getParameter(name: string): Parameter {
    const names: string[] = [];
    for (const [candidate, slot] of slots(this, '')) {
      if (slot instanceof Parameter) {
        if (candidate === name) return slot;
        names.push(candidate);
      }
    }
    throw new ConfigError(`No parameter '${name}'. Closest names: ${closestNames(name, names).join(', ')}.`);
  }

  /** Every parameter and persistent buffer under every name it has (a tied one under each of its names). */
  *namedState(prefix = ''): Generator<[string, Parameter | Buffer]> {
    for (const [name, slot] of slots(this, prefix)) {
      if (slot instanceof Parameter || slot.persistent) yield [name, slot];
    }
  }

  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** Excludes all parameters below from training. */
  freeze(): this {
    return this.requiresGrad(false);
  }

  unfreeze(): this {
    return this.requiresGrad(true);
  }

  requiresGrad(value: boolean): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = value;
    return this;
  }

  /** Disposes of every tensor below this module. */
  dispose(): void {
    for (const [, slot] of slots(this, '')) slot.dispose();
  }
}

/**
 * Puts `replace(base)` in the place of the module at `path` and returns it. It holds `base` if it wants to (an
 * adapter); to restore the model, replace again by the base.
 * @throws ConfigError if there is no module at `path`.
 */
export function replaceModule<T extends AnyModule>(model: AnyModule, path: string, replace: (base: AnyModule) => T): T {
  const base = model.getSubmodule(path);
  if (base === model) throw new ConfigError("The model itself (path '') cannot be replaced.");
  const replacement = replace(base);
  const found = holder(model, base);
  if (found !== undefined) found.container[found.key] = replacement;
  return replacement;
}

function holder(module: AnyModule, child: AnyModule): { container: Record<string, unknown>; key: string } | undefined {
  const visit = (
    container: Record<string, unknown>,
  ): { container: Record<string, unknown>; key: string } | undefined => {
    for (const [key, value] of Object.entries(container)) {
      if (value === child) return { container, key };
      const inner = isContainer(value) ? visit(value) : value instanceof Module ? holder(value, child) : undefined;
      if (inner !== undefined) return inner;
    }
    return undefined;
  };
  return visit(module as unknown as Record<string, unknown>);
}

function isContainer(value: unknown): value is Record<string, unknown> {
  if (Array.isArray(value)) return true;
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** The parameters, buffers and modules that an object holds directly, in arrays and in plain objects. */
function* members(container: object, prefix = ''): Generator<[string, Member]> {
  for (const [key, value] of Object.entries(container)) {
    const name = prefix + key;
    if (value instanceof Module || value instanceof Parameter || value instanceof Buffer) yield [name, value];
    else if (isContainer(value)) yield* members(value, `${name}.`);
  }
}

const join = (prefix: string, name: string): string => (prefix === '' ? name : `${prefix}.${name}`);

function* walk(module: AnyModule, path: string, seen: Set<AnyModule>): Generator<[string, AnyModule]> {
  if (seen.has(module)) return;
  seen.add(module);
  yield [path, module];
  for (const [name, child] of module.namedChildren()) yield* walk(child, join(path, name), seen);
}

/** All parameters and buffers below, under every name they have; a parametrization's follow its parameter's. */
function* slots(module: AnyModule, path: string): Generator<[string, Parameter | Buffer]> {
  for (const [name, member] of members(module)) {
    const memberPath = join(path, name);
    if (member instanceof Module) {
      yield* slots(member, memberPath);
      continue;
    }
    yield [memberPath, member];
    if (!(member instanceof Parameter)) continue;
    for (const [index, parametrization] of member.parametrizations.entries()) {
      if (parametrization instanceof Module) yield* slots(parametrization, `${memberPath}.parametrizations.${index}`);
    }
  }
}

function* once<T extends Parameter | Buffer>(
  all: Iterable<[string, Parameter | Buffer]>,
  type: new (...args: never[]) => T,
): Generator<[string, T]> {
  const seen = new Set<Parameter | Buffer>();
  for (const [name, slot] of all) {
    if (!(slot instanceof type) || seen.has(slot)) continue;
    seen.add(slot);
    yield [name, slot];
  }
}

function register<T>(hooks: T[], hook: T): HookHandle {
  hooks.push(hook);
  let registered = true;
  return {
    remove: () => {
      if (registered) hooks.splice(hooks.lastIndexOf(hook), 1);
      registered = false;
    },
  };
}
