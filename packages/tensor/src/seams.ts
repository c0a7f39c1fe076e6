import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { ConfigError } from './errors.ts';
import type { TensorMap } from './loss-and-grads.ts';
import { Module } from './module.ts';
import { quote } from './quote.ts';
import type { StateDict } from './state-dict.ts';

/** Where in the model an encoding is asked. */
export interface EncodingContext {
  /** Index of the attention layer, from 0. */
  readonly layer: number;
}

/**
 * How a model knows where its tokens are. Attention takes one encoding and asks no more; an encoding implements any of
 * the four.
 *
 * Positions are `[seq]` (text) or `[seq, axes]` (image patches and the like), int32 or float32; they may be fractional,
 * repeated and offset. Key-value caches keep keys unrotated, so `rotate` and `scores` always see all keys as projected.
 */
export interface PositionEncoding {
  /** Added to the tokens before the first block. `[seq, dim]`. */
  embed?(positions: Tensor): Tensor;
  /**
   * Acts on queries `[batch, heads, q, headDim]` and keys `[batch, kvHeads, k, headDim]`; returns both in the same shape,
   * or both with the same other number of channels.
   */
  rotate?(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor, context: EncodingContext): [Tensor, Tensor];
  /** Added to the attention logits, after their scaling. `[heads, q, k]`. */
  bias?(qPositions: Tensor, kPositions: Tensor, context: EncodingContext): Tensor;
  /**
   * Computes the attention logits itself, scaling included: `[batch, heads, q, k]` from queries
   * `[batch, heads, q, headDim]` and keys already repeated to `[batch, heads, k, headDim]`. Masks are applied after it.
   */
  scores?(q: Tensor, k: Tensor, qPositions: Tensor, kPositions: Tensor, context: EncodingContext): Tensor;
  /** A term that training adds to the loss. */
  auxiliaryLoss?(): Scalar;
}

const POSITION_METHODS = ['embed', 'rotate', 'bias', 'scores'] as const;

/**
 * @param owner named in errors.
 * @throws ConfigError unless `encoding` is a `PositionEncoding`. An object without any of its methods is one (NoPE), a
 * `Module` without them is something else, which would give no positions without a word.
 */
export function checkEncoding(owner: string, encoding: unknown): void {
  const refuse = (problem: string): ConfigError =>
    new ConfigError(
      `${owner}: encoding ${problem}; pass a PositionEncoding, such as new Rope({ headDim }) or {} for none.`,
    );
  if (typeof encoding === 'function')
    throw refuse(`is the function or class ${encoding.name || 'without a name'} itself`);
  if (typeof encoding !== 'object' || encoding === null || Array.isArray(encoding)) {
    throw refuse(`is ${quote(encoding)}`);
  }
  const methods = encoding as Record<string, unknown>;
  for (const name of [...POSITION_METHODS, 'auxiliaryLoss']) {
    const method = methods[name];
    if (method !== undefined && typeof method !== 'function') throw refuse(`has ${quote(method)} as ${name}`);
  }
  if (encoding instanceof Module && !POSITION_METHODS.some((name) => methods[name] !== undefined)) {
    throw refuse(`is a ${encoding.constructor.name}, which has none of ${POSITION_METHODS.join(', ')}`);
  }
}

/** The named tensors that a training step produces: `logits`, `labels`, sample indices, features … */
export type Signals = Readonly<Record<string, Tensor>>;

/** A loss. It may keep state (past targets, running means) that checkpoints save. */
export interface Objective {
  /** Differentiable scalar. Runs inside a `tidy`. */
  compute(signals: Signals): Scalar;
  /** The tensors of its state; they stay the objective's own. */
  stateDict?(): StateDict;
  loadStateDict?(state: StateDict): void;
}

/** The state of a gradient transformation: a tree whose leaves are tensors. */
export interface GradientState {
  readonly [name: string]: Tensor | TensorMap | GradientState;
}

/**
 * One link of an optimizer, as in optax: from gradients to updates. Links chain, so an optimizer is a list of them.
 *
 * All that changes from step to step is in the state, and the state is tensors only (counters too), so that a step can be
 * traced once and saved whole. `update` reads `state` and returns a new one; the caller disposes of the old.
 * Both run inside a `tidy`.
 */
export interface GradientTransformation<State extends GradientState = GradientState> {
  init(parameters: TensorMap): State;
  /** `updates` are what is ADDED to the parameters after the last link. */
  update(gradients: TensorMap, state: State, parameters: TensorMap): { updates: TensorMap; state: State };
}
