import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import type { backend_util, DataId, DataType, TensorInfo } from '@tensorflow/tfjs-core';
import { engine } from '@tensorflow/tfjs-core';
import type { NativeDType, Param, Plan } from './graph.ts';
import { ARRAYS, buildModel, inputName, int64, outputName, paramName, paramType } from './graph.ts';
import { sizeOf } from './kernel.ts';
import type { Block, PoolStats } from './pool.ts';
import { BufferPool } from './pool.ts';
import type { NativeTensor, Runtime } from './runtime.ts';
import { SessionCache } from './session-cache.ts';
import type { Trace, TracedValue } from './trace.ts';

export type NativeArray = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** What a data id stands for: the cpu backend's record, plus the pooled memory its values lie in, if any. */
interface Stored {
  values?: backend_util.BackendValues;
  dtype: DataType;
  refCount: number;
  complexTensorInfos?: { real: TensorInfo; imag: TensorInfo };
  block?: Block;
  traced?: TracedValue;
}

/** `tf.memory()` under this backend also tells what the buffer pool holds. */
export interface OrtMemory {
  unreliable: boolean;
  reasons: string[];
  pool: PoolStats;
}

/** Operations from which a graph is given threads: waking them takes 20 microseconds, in which one thread does half. */
const PARALLEL_WORK = 1 << 18;

/** Without a runtime that runs kernels at once, results come and go with the garbage collector. */
const NO_POOL = 0;

/**
 * The `ort` backend: TensorFlow.js's cpu backend, whose values are typed arrays, with its hot kernels computed in place
 * on those arrays by ONNX Runtime.
 */
export class OrtBackend extends MathBackendCPU {
  readonly pool: BufferPool;
  /** The trace in progress: kernels then add to its graph instead of computing. */
  trace: Trace | undefined;
  readonly #runtime: Runtime | undefined;
  readonly #sessions: SessionCache;
  readonly #parallelSessions: SessionCache;

  /**
   * @param runtime Without one every kernel runs in JavaScript, and ONNX Runtime only what `jitAsync` traces.
   * @param sessionLimit How many graphs may stay loaded; of those with threads of their own an eighth of it.
   */
  constructor(runtime?: Runtime, sessionLimit = 1024) {
    super();
    this.#runtime = runtime;
    this.pool = new BufferPool(runtime?.poolLimit ?? NO_POOL);
    this.#sessions = new SessionCache(sessionLimit);
    this.#parallelSessions = new SessionCache(Math.ceil(sessionLimit / 8));
  }

  /** Whether kernels can run natively one by one. */
  get native(): boolean {
    return this.#runtime !== undefined;
  }

  /** Whether graphs begin with the output that spares the native binding a copy of the others. */
  get sentinel(): boolean {
    return this.native;
  }

  /** How many graphs are loaded. */
  get sessions(): number {
    return this.#sessions.size + this.#parallelSessions.size;
  }

  override write(values: backend_util.BackendValues, _shape: number[], dtype: DataType): DataId {
    const dataId = {};
    this.data.set(dataId, { values, dtype, refCount: 1 });
    return dataId;
  }

  /** The values of a float32, int32 or bool tensor as the typed array of its type, to be read only. */
  values(tensor: TensorInfo): NativeArray {
    const data = this.#stored(tensor.dataId);
    this.#checkKnown(tensor.dataId);
    const Type = ARRAYS[tensor.dtype as NativeDType];
    if (data.values instanceof Type) return data.values as NativeArray;
    // Scalars may hold a plain array; a cast of the cpu backend may share values of another type.
    const converted = Type.from(data.values as ArrayLike<number>);
    if (data.dtype === tensor.dtype && !data.block) data.values = converted;
    return converted;
  }

  /** A new tensor of `shape` for a kernel to fill: its elements are arbitrary. */
  allocate(shape: readonly number[], dtype: NativeDType): { tensor: TensorInfo; values: NativeArray } {
    const Type = ARRAYS[dtype];
    const size = sizeOf(shape);
    const block = this.pool.take(size * Type.BYTES_PER_ELEMENT);
    const values = block ? new Type(block.buffer) : new Type(size);
    return { tensor: this.#store(values, shape, dtype, block), values };
  }

  /** A new tensor over `values[offset …]` of `source`, sharing its memory. */
  share(source: TensorInfo, offset: number, shape: readonly number[]): TensorInfo {
    const values = this.values(source);
    const data = this.#stored(source.dataId);
    // Converted values (see `values`) are not the stored ones and need no accounting.
    const block = values === data.values ? data.block : undefined;
    if (block) block.uses++;
    return this.#store(values.subarray(offset, offset + sizeOf(shape)), shape, source.dtype as NativeDType, block);
  }

  /** A new tensor of `shape` whose numbers a traced graph will compute. */
  standIn(traced: TracedValue, shape: readonly number[]): TensorInfo {
    const { dtype } = traced;
    const dataId = {};
    const stored: Stored = { dtype, refCount: 1, traced };
    this.data.set(dataId, stored as Parameters<typeof this.data.set>[1]);
    return { dataId, shape: shape as number[], dtype };
  }

  tracedValue(dataId: DataId): TracedValue | undefined {
    return this.data.has(dataId) ? this.#stored(dataId).traced : undefined;
  }

  /** Numbers that must differ from run to run: an input of the graph in a trace, a plain tensor outside of one. */
  hostInput(shape: readonly number[], dtype: 'float32' | 'int32', make: () => NativeArray): TensorInfo {
    if (this.trace) return this.trace.input({ from: 'host', make }, shape, dtype, 'a random draw');
    return this.#store(make(), shape, dtype, undefined);
  }

  /** @throws Error naming the kernel if one of its inputs is disposed. */
  checkAlive(name: string, inputs: readonly TensorInfo[]): void {
    for (const { dataId, dtype, shape } of inputs) {
      if (!this.data.has(dataId) && !engine().state.tensorInfo.has(dataId)) {
        throw new Error(`${name}: the input ${dtype}[${shape}] is disposed`);
      }
    }
  }

  /** Run `plan` for kernel `name`. */
  execute(name: string, plan: Plan): TensorInfo[] {
    if (plan.offsets) {
      const source = plan.inputs[0]!.tensor;
      return plan.outputs.map(({ shape }, i) => this.share(source, plan.offsets![i]!, shape));
    }
    const feeds: Record<string, NativeTensor> = {};
    let work = plan.work ?? 0;
    let key = `${name}:${plan.key}:`;
    for (let i = 0; i < plan.inputs.length; i++) {
      const { tensor, shape } = plan.inputs[i]!;
      const data = this.values(tensor);
      const type = tensor.dtype as NativeDType;
      feeds[inputName(i)] = { type, data, dims: shape, location: 'cpu' };
      key += type[0];
      if (plan.work === undefined && data.length > work) work = data.length;
    }
    const params = plan.params ?? [];
    for (let i = 0; i < params.length; i++) feeds[paramName(i)] = feedParam(params[i]!);
    const fetches: Record<string, NativeTensor> = {};
    const outputs = new Array<TensorInfo>(plan.outputs.length);
    for (let i = 0; i < outputs.length; i++) {
      const { shape, view, dtype } = plan.outputs[i]!;
      const { tensor, values } = this.allocate(shape, dtype);
      outputs[i] = tensor;
      fetches[outputName(i)] = { type: dtype, data: values, dims: view ?? shape, location: 'cpu' };
      if (plan.work === undefined && values.length > work) work = values.length;
    }
    const parallel = work >= PARALLEL_WORK;
    const sessions = parallel ? this.#parallelSessions : this.#sessions;
    try {
      sessions
        .get(key, () => this.#runtime!.load(buildModel(name, plan), parallel ? 'parallel' : 'kernel'))
        .run(feeds, fetches);
    } catch (cause) {
      for (const output of outputs) this.disposeData(output.dataId, true);
      const shapes = plan.inputs.map(({ tensor }) => `${tensor.dtype}[${tensor.shape}]`).join(', ');
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`${name} failed in ONNX Runtime on ${shapes}: ${reason}`, { cause });
    }
    return outputs;
  }

  /**
   * Note where outputs of a cpu kernel lie in the memory of its inputs (a cpu slice is a view), so that it is not
   * reused while they live.
   */
  trackAliases(inputs: readonly TensorInfo[], outputs: readonly TensorInfo[]): void {
    for (const input of inputs) {
      const { block } = this.#stored(input.dataId);
      if (!block) continue;
      for (const output of outputs) {
        if (output.dataId !== input.dataId && this.#overlaps(output, block.buffer)) block.escaped = true;
      }
    }
  }

  #overlaps(output: TensorInfo, memory: ArrayBuffer): boolean {
    const { values, complexTensorInfos } = this.#stored(output.dataId);
    if (ArrayBuffer.isView(values) && values.buffer === memory) return true;
    return (
      complexTensorInfos !== undefined &&
      (this.#overlaps(complexTensorInfos.real, memory) || this.#overlaps(complexTensorInfos.imag, memory))
    );
  }

  /** Also `bufferSync`, `read` and `tensor.dataSync()` come here: from now on the reader may hold the values. */
  override readSync(dataId: DataId): backend_util.BackendValues {
    this.#checkKnown(dataId);
    const { block } = this.#stored(dataId);
    if (block) block.escaped = true;
    return super.readSync(dataId);
  }

  override disposeData(dataId: DataId, force = false): boolean {
    const stored = this.data.has(dataId) ? this.#stored(dataId) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && stored?.block) this.pool.release(stored.block);
    if (gone) stored?.traced?.trace.forget(dataId);
    return gone;
  }

  override memory(): OrtMemory {
    return { ...super.memory(), pool: this.pool.stats() };
  }

  override dispose(): void {
    this.#sessions.clear();
    this.#parallelSessions.clear();
    this.pool.clear();
  }

  #checkKnown(dataId: DataId): void {
    const traced = this.trace?.find(dataId) ?? this.tracedValue(dataId);
    if (!traced) return;
    const what = `${traced.dtype}[${traced.shape}] from ${traced.origin}`;
    if (traced.trace === this.trace) {
      throw new Error(
        `A function under jit reads the values of ${what}, which are not known while it is traced. Compute with tensors ` +
          'throughout, return the tensor and read it outside, or run the function without jit.',
      );
    }
    throw new Error(
      `${what} was made while jit traced a function and never had values. Return it from the function, or declare ` +
        'what holds it as state.',
    );
  }

  /** The record of a data id, moved here if another backend holds it. */
  #stored(dataId: DataId): Stored {
    return this.data.get(dataId) as Stored;
  }

  #store(values: NativeArray, shape: readonly number[], dtype: NativeDType, block: Block | undefined): TensorInfo {
    const dataId = {};
    const stored: Stored = { values, dtype, refCount: 1, block };
    this.data.set(dataId, stored as Parameters<typeof this.data.set>[1]);
    return { dataId, shape: shape as number[], dtype };
  }
}

function feedParam(param: Param): NativeTensor {
  const type = paramType(param);
  if ('type' in param) return { type, data: ARRAYS[param.type].of(param.value), dims: [], location: 'cpu' };
  return { type, data: int64(param), dims: [param.length], location: 'cpu' };
}
