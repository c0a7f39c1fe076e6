import { type Initializer, Linear, MASKED, mergeHeads, RMSNorm, splitHeads, xavierUniform_, zeros_ } from '@ashlar/nn';
import {
  add,
  ConfigError,
  cast,
  checkChoice,
  checkEncoding,
  checkInteger,
  checkOptions,
  checkRng,
  einsum,
  exp,
  fill,
  Module,
  mul,
  type PositionEncoding,
  type Rng,
  range,
  reshape,
  ShapeError,
  sigmoid,
  silu,
  sub,
  type Tensor,
  tidy,
  tile,
  zeros,
} from '@ashlar/tensor';
import { lastToken, logCumSumExp } from './additive-recurrence.ts';
import { decayedScan } from './decayed-scan.ts';
import { hide, tokenSoftmax } from './one-scan-attention.ts';

export interface LightNetAttentionOptions {
  /** Width of the tokens; a multiple of `heads`. */
  readonly dim: number;
  readonly heads: number;
  /** Default true. */
  readonly causal?: boolean;
  /**
   * Its `rotate` is applied to `silu(q)` and to the normalised keys. Causal, with a decay for each channel, it must give each
   * channel several instead of mixing them: `MdLrpe` of the cosine form. Its angles may depend on a token's own position
   * alone if `step` is to equal a full pass: the state keeps sums over rotated keys, which a `Clex` or a `Rope` of dynamic
   * scaling would have to turn again whenever the length grows. No child of this module. Default none.
   */
  readonly encoding?: PositionEncoding;
  /** Index of the layer, which the encoding is told. Default 0. */
  readonly layer?: number;
  /** `RMSNorm(o * sigmoid(u))` (`'pre'`, default), `RMSNorm(o) * silu(u)` (`'post'`), or `RMSNorm(o)`; see the class. */
  readonly gate?: 'pre' | 'post' | 'none';
  /** Causal: whether the sums start with one logit of 0. Default true. */
  readonly sink?: boolean;
  /**
   * Causal: one logit for each head, `f = x W_f`, and keys `silu(k)`; `'complement'`: these times 1 minus the decay. Default
   * false.
   */
  readonly scalarDecay?: boolean | 'complement';
  readonly rng: Rng;
  /** Of all projections but the last, which starts at zero. Default Xavier-uniform with gain 0.01 (the author's code). */
  readonly init?: Initializer;
  /** Of the last one. Default zeros. */
  readonly outInit?: Initializer;
}

export interface LightNetInput {
  /** `[n]` or `[n, axes]`. Default 0, 1 …, counted on from the state. */
  readonly positions?: Tensor;
  /** `[batch, n]`, 1 or true for tokens, 0 for padding. Default all. */
  readonly mask?: Tensor;
}

/** What decoding goes on from: of constant size. The caller disposes of it. */
export type LightNetState = {
  /** `[batch, heads, keyWidth, headDim]`. */
  readonly s: Tensor;
  /** `[batch, heads, headDim]`, or `[batch, heads, 1]` with a scalar decay: the logarithm of the sum of weights. */
  readonly logsum: Tensor;
  /** `[1]`, int32: the position of the next token. */
  readonly position: Tensor;
};

/**
 * LightNet's attention, `[batch, n, dim]` to the same at a cost linear in `n`: `q = silu(x W_q)`, logits `k = x W_k`,
 * `v = x W_v`, heads, then over the whole input (not causal) the softmax of `k` over the tokens and `o = q^T (k~^T v)`; causal
 * `z_t = log sum_{j <= t} exp(k_j)`, `k~_t = exp(k_t - z_t)`, `S_t = diag(exp(z_{t-1} - z_t)) S_{t-1} + k~_t v_t^T`,
 * `o_t = q_t^T S_t`. Last a gate of low rank, `u = x W_u1 W_u2`, RMSNorm (1e-5 is added to the SUM of squares) and `W_o`.
 *
 * The form that is not causal is `reconstructed`: the limit of the causal one in which every token sees the last sum.
 *
 * Source: "You Only Scan Once: Efficient Multi-dimension Sequential Modeling with LightNet" (2024, arXiv 2405.21022).
 */
export class LightNetAttention extends Module<[Tensor, LightNetInput?]> {
  readonly dim: number;
  readonly heads: number;
  readonly causal: boolean;
  readonly layer: number;
  readonly gate: 'pre' | 'post' | 'none';
  readonly sink: boolean;
  readonly scalarDecay: boolean | 'complement';
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly f_proj?: Linear;
  readonly output_gate: Linear[];
  readonly norm: RMSNorm;
  readonly o_proj: Linear;
  readonly #encoding: PositionEncoding | undefined;

  /** @throws ConfigError for an option out of range, or an encoding that acts on tokens or logits. */
  constructor(options: LightNetAttentionOptions) {
    super();
    checkRng('LightNetAttention', checkOptions('LightNetAttention', options).rng);
    const { dim, heads, causal = true, encoding, layer = 0, gate = 'pre', sink = true, scalarDecay = false } = options;
    const { rng, init = xavierUniform_({ gain: 0.01 }), outInit = zeros_() } = options;
    const fail = (problem: string): never => {
      throw new ConfigError(`LightNetAttention: ${problem}.`);
    };
    checkInteger('LightNetAttention', 'dim', dim);
    checkInteger('LightNetAttention', 'heads', heads);
    checkInteger('LightNetAttention', 'layer', layer, 0);
    if (dim % heads !== 0) fail(`dim is ${dim}; it must be a multiple of heads, ${heads}`);
    checkChoice('LightNetAttention', 'causal', causal, [true, false]);
    checkChoice('LightNetAttention', 'gate', gate, ['pre', 'post', 'none']);
    checkChoice('LightNetAttention', 'sink', sink, [true, false]);
    checkChoice('LightNetAttention', 'scalarDecay', scalarDecay, [true, false, 'complement']);
    if (!causal && scalarDecay !== false) fail('scalarDecay needs causal: without an order nothing decays');
    if (encoding !== undefined) checkEncoding('LightNetAttention', encoding);
    if (encoding?.bias !== undefined || encoding?.scores !== undefined) {
      fail('the encoding acts on logits, of which there are none here; take one with rotate (MdLrpe)');
    }
    if (encoding?.embed !== undefined && encoding.rotate === undefined) {
      fail('the encoding has embed alone, which a model adds to its tokens; take one with rotate here (MdLrpe)');
    }
    this.dim = dim;
    this.heads = heads;
    this.causal = causal;
    this.layer = layer;
    this.gate = gate;
    this.sink = sink;
    this.scalarDecay = scalarDecay;
    this.#encoding = encoding;
    const linear = (name: string, from: number, to: number, own = init): Linear =>
      new Linear(from, to, { bias: false, init: own, rng: rng.fork(name) });
    this.q_proj = linear('q_proj', dim, dim);
    this.k_proj = linear('k_proj', dim, dim);
    this.v_proj = linear('v_proj', dim, dim);
    if (scalarDecay !== false) this.f_proj = linear('f_proj', dim, heads);
    const rank = dim / heads;
    this.output_gate = gate === 'none' ? [] : [linear('output_gate.0', dim, rank), linear('output_gate.1', rank, dim)];
    this.norm = new RMSNorm(dim, { eps: 1e-5 / dim });
    this.o_proj = linear('o_proj', dim, dim, outInit);
  }

  /** @throws ShapeError if the shapes do not fit; ConfigError for an encoding that mixes channels of different decays. */
  override forward(x: Tensor, input: LightNetInput = {}): Tensor {
    this.#check(x, input);
    if (this.causal) return this.#scan(x, undefined, input).output;
    const { mask } = input;
    const [q, k, v] = this.#project(x);
    const keys = tokenSoftmax(k, 2, mask && reshape(mask, [x.shape[0], 1, -1, 1]));
    const [qs, ks] = this.#rotate(silu(q), keys, input.positions ?? range(0, x.shape[1] as number, 1, 'int32'));
    return this.#finish(x, mergeHeads(einsum('bhnd,bhde->bhne', qs, einsum('bhnd,bhne->bhde', ks, v))));
  }

  /**
   * Goes on from `state`: `x` `[batch, n, dim]` are the next tokens, one or many. As `forward` on all of them at once, unless
   * the encoding's angles change with the length (see `encoding`).
   * @param state of the last step; none before the first. It stays the caller's.
   * @throws ConfigError unless the layer is causal, ShapeError for a state of another batch or layer.
   */
  step(x: Tensor, state?: LightNetState, input: LightNetInput = {}): { output: Tensor; state: LightNetState } {
    if (!this.causal) throw new ConfigError('LightNetAttention: step needs causal: true.');
    this.#check(x, input);
    if (state !== undefined) this.#checkState(x, state);
    return tidy(() => this.#scan(x, state, input));
  }

  #scan(x: Tensor, state: LightNetState | undefined, input: LightNetInput): { output: Tensor; state: LightNetState } {
    const [batch, length] = x.shape as [number, number, number];
    const { heads, scalarDecay, f_proj } = this;
    const [q, k, v] = this.#project(x);
    const keep = input.mask && cast(reshape(input.mask, [batch, 1, length, 1]), 'float32');
    const shown = (logits: Tensor): Tensor => (keep === undefined ? logits : hide(logits, keep));
    const logits = shown(f_proj === undefined ? k : splitHeads(f_proj.apply(x), heads));
    const clocks = logits.shape[3] as number;
    const before = state?.logsum ?? fill([batch, heads, clocks], this.sink ? 0 : MASKED);
    const z = logCumSumExp(logits, before);
    let keys = f_proj === undefined ? exp(sub(logits, z)) : silu(k);
    if (scalarDecay === 'complement') keys = mul(keys, exp(sub(logits, z)));
    if (keep !== undefined) keys = mul(keys, keep);

    const first = state?.position ?? zeros([1], 'int32');
    const positions = input.positions ?? add(range(0, length, 1, 'int32'), first);
    const [qs, ks] = this.#rotate(silu(q), keys, positions);
    const width = qs.shape[3] as number;
    const copies = clocks === 1 ? 1 : width / clocks;
    const clock = (x: Tensor): Tensor => (copies === 1 ? x : tile(x, [...x.shape.slice(1).map(() => 1), copies]));
    const s = state?.s ?? zeros([batch, heads, width, v.shape[3] as number]);
    if (s.shape[2] !== width) {
      throw new ShapeError(`LightNetAttention: the state is of keys ${s.shape[2]} wide; this layer's are ${width}.`);
    }
    const scanned = decayedScan(qs, ks, v, clock(z), { s, z: clock(before) });
    return {
      output: this.#finish(x, mergeHeads(scanned.output)),
      state: { s: scanned.s, logsum: lastToken(z), position: add(first, cast(length, 'int32')) },
    };
  }

  #project(x: Tensor): Tensor[] {
    return [this.q_proj, this.k_proj, this.v_proj].map((projection) => splitHeads(projection.apply(x), this.heads));
  }

  #rotate(q: Tensor, k: Tensor, positions: Tensor): [Tensor, Tensor] {
    const encoding = this.#encoding;
    if (encoding?.rotate === undefined) return [q, k];
    const [qs, ks] = encoding.rotate(q, k, positions, positions, { layer: this.layer });
    const [headDim, width] = [q, qs].map((x) => x.shape[3] as number);
    if (this.causal && this.scalarDecay === false && (width === headDim || width % headDim !== 0)) {
      throw new ConfigError(
        `LightNetAttention: the encoding turns channels (${headDim} to ${width}) that decay differently; take MdLrpe of ` +
          'the cosine form, scalarDecay, or causal: false.',
      );
    }
    return [qs, ks];
  }

  #finish(x: Tensor, o: Tensor): Tensor {
    const { norm, gate } = this;
    const u = (): Tensor => this.output_gate.reduce((y, layer) => layer.apply(y), x);
    if (gate === 'none') return this.o_proj.apply(norm.apply(o));
    return this.o_proj.apply(gate === 'pre' ? norm.apply(mul(o, sigmoid(u()))) : mul(norm.apply(o), silu(u())));
  }

  #checkState({ shape: [batch] }: Tensor, { s, logsum, position }: LightNetState): void {
    const { heads, dim, scalarDecay } = this;
    const headDim = dim / heads;
    const clocks = scalarDecay === false ? headDim : 1;
    const fits =
      s?.rank === 4 &&
      String([...s.shape.slice(0, 2), s.shape[3]]) === String([batch, heads, headDim]) &&
      String(logsum?.shape) === String([batch, heads, clocks]) &&
      String(position?.shape) === '1';
    if (fits) return;
    throw new ShapeError(
      `LightNetAttention: the state must be s [${batch}, ${heads}, keyWidth, ${headDim}], logsum [${batch}, ${heads}, ` +
        `${clocks}] and position [1], not [${s?.shape}], [${logsum?.shape}] and [${position?.shape}].`,
    );
  }

  #check(x: Tensor, { mask }: LightNetInput): void {
    if (x.rank !== 3 || x.shape[2] !== this.dim || x.shape[1] === 0) {
      throw new ShapeError(`LightNetAttention takes tokens [batch, n, ${this.dim}], not [${x.shape}].`);
    }
    if (mask !== undefined && String(mask.shape) !== String(x.shape.slice(0, 2))) {
      throw new ShapeError(`LightNetAttention: the mask must be [${x.shape.slice(0, 2)}], not [${mask.shape}].`);
    }
  }
}
