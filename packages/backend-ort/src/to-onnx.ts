import { Tensor } from '@tensorflow/tfjs-core';
import type { NativeArray, OrtBackend } from './backend.ts';
import type { NativeDType, Value } from './graph.ts';
import { nameOutputs, outputName } from './graph.ts';
import { currentBackend } from './graphs.ts';
import { sameShape } from './kernel.ts';
import type { Dimension, Initializer } from './onnx.ts';
import { encodeModel } from './onnx.ts';
import { record, standIns } from './record.ts';
import { SizeArithmetic } from './size-arithmetic.ts';
import { fitSizes, isFixed, type SizeFormula } from './size-formula.ts';
import { type GraphInput, Trace } from './trace.ts';

/** An axis whose size the file leaves open. */
export interface DynamicAxis {
  /** Axes of the same name have the same size. */
  name: string;
  /**
   * The largest size, for functions with tables that are cut to it (positions, masks). Default: the example's size,
   * at least 5; functions without such tables take larger ones, too.
   */
  max?: number;
}

export interface ExportOptions {
  /** By input and axis, for example `{ input_ids: { 0: 'batch', 1: { name: 'sequence', max: 512 } } }`. */
  dynamicAxes?: Readonly<Record<string, Readonly<Record<number, string | DynamicAxis>>>>;
  /** Name of the graph in the file. Default: the function's. */
  name?: string;
}

export type Named = Readonly<Record<string, Tensor>>;

/**
 * `fn` as the bytes of an ONNX file: a graph with the inputs named in `example` and the outputs named in what `fn`
 * returns. What else it computes with (weights) is in the file. Opset 21; the operators are ONNX's own and
 * `RotaryEmbedding` of `com.microsoft`, which ONNX Runtime has on every platform. int32 and float32 stay what they are.
 *
 * With `dynamicAxes` the function is traced at several sizes, and what differs between the graphs is replaced by
 * arithmetic on the sizes of the inputs.
 *
 * @param example tensors of the shapes that the file takes, dynamic axes aside; their values do not matter.
 * @returns the file, and the largest size of each dynamic axis that has one.
 * @throws Error as `jit`, and where a number or table depends on a dynamic size in another way than a product or a cut.
 */
export function toOnnx(
  fn: (inputs: Record<string, Tensor>) => Named,
  example: Named,
  options: ExportOptions = {},
): { model: Uint8Array<ArrayBuffer>; limits: Record<string, number> } {
  const backend = currentBackend('toOnnx');
  const symbols = readSymbols(example, options.dynamicAxes ?? {});
  const samples: Sample[] = [];
  try {
    for (const sizes of sampleSizes(symbols)) samples.push(sample(backend, fn, example, symbols, sizes));
    return join(backend, samples, symbols, Object.keys(example), options.name ?? (fn.name || 'function'));
  } finally {
    for (const { trace } of samples) trace.dispose();
  }
}

/** A dynamic size: where inputs have it, and the largest one traced. */
interface Symbol {
  readonly name: string;
  readonly axes: { readonly input: string; readonly axis: number }[];
  max: number;
}

/** Sizes are told apart by tracing at this many below the largest, and never at 1, where graphs are special. */
const VARIATIONS = 4;
const SMALLEST_MAX = VARIATIONS + 1;
/** More would vary alike, and could not be told apart. */
const MOST_SYMBOLS = VARIATIONS;

function readSymbols(example: Named, dynamicAxes: NonNullable<ExportOptions['dynamicAxes']>): Symbol[] {
  const symbols = new Map<string, Symbol>();
  for (const [input, axes] of Object.entries(dynamicAxes)) {
    const tensor = example[input];
    if (tensor === undefined) {
      throw new Error(`dynamicAxes names the input '${input}'; the example has ${Object.keys(example).join(', ')}.`);
    }
    for (const [key, value] of Object.entries(axes)) {
      const axis = Number(key);
      const { name, max } = typeof value === 'string' ? { name: value, max: undefined } : value;
      if (!(axis >= 0 && axis < tensor.rank)) {
        throw new Error(`dynamicAxes.${input} names axis ${key}; its shape is [${tensor.shape}].`);
      }
      if (max !== undefined && !(Number.isInteger(max) && max >= SMALLEST_MAX)) {
        throw new Error(`max of dynamic axis '${name}' is ${max}; it may be a whole number, at least ${SMALLEST_MAX}.`);
      }
      const symbol = symbols.get(name) ?? { name, axes: [], max: 0 };
      symbol.axes.push({ input, axis });
      symbol.max = Math.max(symbol.max, max ?? Math.max(tensor.shape[axis]!, SMALLEST_MAX));
      symbols.set(name, symbol);
    }
  }
  if (symbols.size > MOST_SYMBOLS) {
    throw new Error(`dynamicAxes has the names ${[...symbols.keys()].join(', ')}; it may have ${MOST_SYMBOLS}.`);
  }
  return [...symbols.values()];
}

/** Sizes to trace at, the largest first; no two symbols vary alike. */
function sampleSizes(symbols: readonly Symbol[]): number[][] {
  if (symbols.length === 0) return [[]];
  return Array.from({ length: 2 * VARIATIONS }, (_, k) =>
    symbols.map(({ max }, i) => max - ((k * (i + 1) + Math.floor(k / VARIATIONS)) % VARIATIONS)),
  );
}

/** The function traced at some sizes. */
interface Sample {
  readonly trace: Trace;
  readonly sizes: readonly number[];
  readonly outputs: readonly { name: string; value: Value; shape: readonly number[]; dtype: NativeDType }[];
}

function sample(
  backend: OrtBackend,
  fn: (inputs: Record<string, Tensor>) => Named,
  example: Named,
  symbols: readonly Symbol[],
  sizes: readonly number[],
): Sample {
  // Samples are told apart node by node, so each has all of them, also where two are the same at its sizes.
  const trace = new Trace(backend, { feedAll: true, merge: false });
  const tensors = Object.entries(example).map(([input, { shape, dtype }]) => {
    const sized = [...shape];
    symbols.forEach(({ axes }, i) => {
      for (const at of axes) if (at.input === input) sized[at.axis] = sizes[i]!;
    });
    return { shape: sized, dtype };
  });
  return record(backend, trace, () => {
    const out = fn(standIns(trace, { ...example }, tensors));
    const outputs = Object.entries(out).map(([name, tensor]) => {
      if (!(tensor instanceof Tensor)) throw new TypeError(`The output '${name}' is no tensor.`);
      const { shape, dtype } = tensor;
      return { name, value: trace.value(tensor, shape), shape, dtype: dtype as NativeDType };
    });
    return { trace, sizes, outputs };
  });
}

/** One graph for all the samples: the first one, with what differs in the others computed from the inputs' sizes. */
function join(
  backend: OrtBackend,
  samples: readonly Sample[],
  symbols: readonly Symbol[],
  inputNames: readonly string[],
  name: string,
): { model: Uint8Array<ArrayBuffer>; limits: Record<string, number> } {
  const [base] = samples as [Sample];
  checkSameNodes(samples, symbols);
  const sizes = samples.map((each) => each.sizes);
  const fit = (values: readonly number[], what: string): SizeFormula => {
    const formula = fitSizes(values, sizes);
    if (formula) return formula;
    const list = symbols.map((symbol) => symbol.name).join(', ');
    throw new Error(`${what} depends on the sizes of ${list} in a way that ONNX export cannot write: ${values}.`);
  };
  const args = base.trace.inputs.filter(({ source }) => source.from === 'argument');
  const arithmetic = new SizeArithmetic(
    symbols.map(({ axes: [first] }) => ({ input: args[inputNames.indexOf(first!.input)]!.name, axis: first!.axis })),
  );
  const replaced = new Map<Value, Value>();
  const limits: Record<string, number> = {};

  const initializers: Initializer[] = [];
  base.trace.graph.initializers.forEach((constant, i) => {
    const all = samples.map(({ trace }) => trace.graph.initializers[i]!);
    if (all.every((other) => sameConstant(other, constant))) {
      initializers.push(constant);
      return;
    }
    const numbers = all.map(wholeNumbers);
    const what = `A constant ${constant.type}[${constant.shape}]`;
    if (numbers.some((list) => list?.length !== numbers[0]?.length)) throw new Error(`${what} changes its kind.`);
    const formulas = numbers[0]!.map((_, j) =>
      fit(
        numbers.map((list) => list![j]!),
        what,
      ),
    );
    replaced.set(
      constant.name,
      arithmetic.vector(formulas, constant.type as 'int32' | 'int64', constant.shape.length === 0),
    );
  });
  base.trace.inputs.forEach((input, i) => {
    const all = samples.map(({ trace }) => trace.inputs[i]!);
    if (input.source.from === 'host') throw new Error('The function draws random tensors, which a file cannot.');
    if (input.source.from !== 'outside') return;
    const values = all.map((each) => valuesOf(backend, each));
    const { buffer, byteOffset, byteLength } = values[0]!;
    const data = new Uint8Array(buffer, byteOffset, byteLength);
    initializers.push({ name: input.name, type: input.dtype, shape: input.shape, data });
    if (all.every((each, k) => sameShape(each.shape, input.shape) && sameValues(values[k]!, values[0]!))) return;
    const what = `A table ${input.dtype}[${input.shape}] from outside of the function`;
    const formulas = input.shape.map((_, axis) =>
      fit(
        all.map(({ shape }) => shape[axis]!),
        what,
      ),
    );
    all.forEach((each, k) => {
      if (!isCut(values[k]!, each.shape, values[0]!, input.shape)) {
        throw new Error(`${what} is not a part of the same table at every size, so ONNX export cannot write it.`);
      }
    });
    replaced.set(input.name, arithmetic.cut(input.name, formulas));
    for (const formula of formulas) {
      symbols.forEach((symbol, s) => {
        if (formula.powers[s]! > 0) limits[symbol.name] = symbol.max;
      });
    }
  });

  const current = (value: Value): Value => replaced.get(value) ?? value;
  const computed = base.trace.graph.nodes.map((node) => ({ ...node, inputs: node.inputs.map(current) }));
  const nodes = nameOutputs(
    [...arithmetic.graph.nodes, ...computed],
    base.outputs.map(({ value }) => current(value)),
  );
  const inputs = args.map(({ name: value, dtype, shape }, i) => ({
    name: value,
    type: dtype,
    shape: shape.map((size, axis): Dimension => {
      const symbol = symbols.find(({ axes }) => axes.some((at) => at.input === inputNames[i] && at.axis === axis));
      return symbol?.name ?? size;
    }),
  }));
  const outputs = base.outputs.map(({ name: output, shape, dtype }, i) => ({
    name: outputName(i),
    type: dtype,
    shape: shape.map((_, axis) => {
      const all = samples.map((each) => each.outputs[i]!.shape[axis]!);
      return dimension(fit(all, `The shape of the output '${output}'`), symbols);
    }),
  }));
  const names = new Map<Value, string>([
    ...args.map(({ name: value }, i): [Value, string] => [value, inputNames[i]!]),
    ...base.outputs.map((output, i): [Value, string] => [outputName(i), output.name]),
  ]);
  // Names from outside must not meet those made here.
  const named = (value: Value): string => (value === '' ? '' : (names.get(value) ?? `/${value}`));
  const rename = <T extends { name: string }>(list: readonly T[]): T[] =>
    list.map((each) => ({ ...each, name: named(each.name) }));
  const model = encodeModel({
    name,
    nodes: nodes.map((node) => ({ ...node, inputs: node.inputs.map(named), outputs: node.outputs.map(named) })),
    inputs: rename(inputs),
    outputs: rename(outputs),
    initializers: rename([...arithmetic.graph.initializers, ...initializers]),
  });
  return { model, limits };
}

/** A size of an output as the file states it: a number, a name, or a name of its own for what is computed. */
function dimension(formula: SizeFormula, symbols: readonly Symbol[]): Dimension {
  const { scale, powers, offset } = formula;
  if (isFixed(formula)) return offset;
  const factors = powers.flatMap((power, i) => new Array<string>(power).fill(symbols[i]!.name));
  return [...(scale === 1 ? [] : [scale]), ...factors].join('*') + (offset === 0 ? '' : ` + ${offset}`);
}

/** @throws Error where the samples differ in more than the numbers that their nodes take. */
function checkSameNodes(samples: readonly Sample[], symbols: readonly Symbol[]): void {
  const shapeOf = ({ trace, outputs }: Sample): string[] => [
    ...trace.graph.nodes.map((node) => JSON.stringify(node)),
    `${trace.inputs.length} inputs, ${trace.graph.initializers.length} constants, ${outputs.map((out) => out.name)}`,
  ];
  const [base, ...others] = samples.map(shapeOf);
  for (const other of others) {
    const at = base!.findIndex((line, i) => line !== other[i]);
    if (at < 0) continue;
    const op = samples[0]!.trace.graph.nodes[at]?.op;
    throw new Error(
      `The function computes in another way at other sizes of ${symbols.map(({ name }) => name).join(', ')}` +
        `${op ? ` (first at ${op})` : ''}, so one ONNX graph cannot hold it; export it with fixed sizes.`,
    );
  }
}

function sameConstant(a: Initializer, b: Initializer): boolean {
  return a.type === b.type && sameShape(a.shape, b.shape) && sameValues(a.data, b.data);
}

function sameValues(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}

/** The elements of a constant of whole numbers. */
function wholeNumbers({ type, data }: Initializer): number[] | undefined {
  const { buffer, byteOffset, byteLength } = data;
  if (type === 'int64') return Array.from(new BigInt64Array(buffer as ArrayBuffer, byteOffset, byteLength / 8), Number);
  if (type === 'int32') return Array.from(new Int32Array(buffer as ArrayBuffer, byteOffset, byteLength / 4));
  return undefined;
}

function valuesOf(backend: OrtBackend, { source }: GraphInput): NativeArray {
  return backend.values((source as { tensor: Tensor }).tensor);
}

/** Whether `values` of `shape` are `whole[0 : shape[0], 0 : shape[1], …]`. */
function isCut(
  values: ArrayLike<number>,
  shape: readonly number[],
  whole: ArrayLike<number>,
  wholeShape: readonly number[],
): boolean {
  if (shape.length !== wholeShape.length || shape.some((size, axis) => size > wholeShape[axis]!)) return false;
  const index = shape.map(() => 0);
  for (const value of Array.from(values)) {
    const at = index.reduce((sum, i, axis) => sum * wholeShape[axis]! + i, 0);
    if (!Object.is(value, whole[at])) return false;
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
  }
  return true;
}
