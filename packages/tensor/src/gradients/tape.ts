import { engine, type Tensor } from '@tensorflow/tfjs-core';
import type { TapeNode } from './backpropagate.ts';

/** The part of tfjs's engine that records operations; private in its types. */
interface Recorder {
  addTapeNode(
    kernel: string,
    inputs: object,
    outputs: Tensor[],
    gradient: unknown,
    saved: Tensor[],
    attrs: unknown,
  ): void;
  readonly state: { readonly activeTape: TapeNode[]; readonly gradientDepth: number };
  /** Gradients of this depth and less do not see what happens now; absent while the tape is as tfjs made it. */
  [PAUSED_DEPTH]?: number;
}

const PAUSED_DEPTH: unique symbol = Symbol.for('@ashlar/tensor/paused-depth');

/**
 * Mends two faults of tfjs's tape that break second-order gradients of most kernels.
 *
 * 1. What an operation saves for its gradient is cloned, and the clones are recorded BEFORE the operation itself. A clone
 *    of an OUTPUT (exp, tanh, softmax, max, every `customGrad` that saves its result) so comes ahead of the node that
 *    makes it, the walk along the tape takes it for a constant, and the second derivative silently lacks a term. Here the
 *    operation is moved ahead of the clones of its outputs.
 * 2. Comparisons and other operations with integer or boolean results are recorded though nothing flows back through
 *    them, and tfjs then stops with "gradient function not found for Greater". They are not recorded here. So casting
 *    to an integer type and back has zero gradient, as in PyTorch (tfjs lets the gradient through).
 */
export function mendTape(): void {
  const recorder = engine() as unknown as Recorder;
  if (recorder[PAUSED_DEPTH] !== undefined) return;
  recorder[PAUSED_DEPTH] = 0;
  const record = recorder.addTapeNode;
  recorder.addTapeNode = function (this: Recorder, kernel, inputs, outputs, gradient, saved, attrs): void {
    const paused = this.state.gradientDepth <= (this[PAUSED_DEPTH] ?? 0);
    if (paused || outputs.every(({ dtype }) => dtype !== 'float32' && dtype !== 'complex64')) {
      for (const tensor of saved) tensor.dispose();
      return;
    }
    record.call(this, kernel, inputs, outputs, gradient, saved, attrs);
    const tape = this.state.activeTape;
    const made = new Set(outputs);
    const last = tape.length - 1;
    for (let i = Math.max(0, last - saved.length); i < last; i++) {
      if (!Object.values(tape[i].inputs).some((input) => made.has(input))) continue;
      tape.splice(i, 0, ...tape.splice(last, 1));
      break;
    }
  };
}

/** Runs `f` hidden from all gradients that are being taken around it; gradients taken inside `f` work. */
export function pauseTape<T>(f: () => T): T {
  const recorder = engine() as unknown as Recorder;
  const before = recorder[PAUSED_DEPTH];
  recorder[PAUSED_DEPTH] = recorder.state.gradientDepth;
  try {
    return f();
  } finally {
    recorder[PAUSED_DEPTH] = before;
  }
}

/** Whether gradients that are being taken see what happens now. */
export function isRecording(): boolean {
  const recorder = engine() as unknown as Recorder;
  return engine().isTapeOn() && recorder.state.gradientDepth > (recorder[PAUSED_DEPTH] ?? 0);
}
