import { attend, embedPositions, Linear, mergeHeads, Sequential, splitHeads } from '@ashlar/nn';
import {
  broadcastTo,
  ConfigError,
  checkChoice,
  checkEncoding,
  checkInteger,
  checkOptions,
  checkRng,
  concat,
  Module,
  type PositionEncoding,
  type Rng,
  relu,
  ShapeError,
  slice,
  Tensor,
  tidy,
} from '@ashlar/tensor';
import { checkHeads } from './options.ts';
import { PositionalAttention, projection } from './positional-attention.ts';

export interface PositionalTransformerOptions {
  /** Of a node's value. */
  readonly inputDim: number;
  readonly embedDim: number;
  readonly outputDim: number;
  readonly numHeads: number;
  /** The paper's: `floor(log2 n) + 1` for `n` nodes. */
  readonly numLayers: number;
  /** Width of the hidden layers of each MLP. */
  readonly mlpHidden: number;
  /** Linear layers of each MLP. Default 2. */
  readonly mlpLayers?: number;
  /** Width of the positions; the number of nodes for `identityPositions`. */
  readonly positionDim: number;
  /** Whether attention sees the positions alone; false is the baseline. Default true. */
  readonly positional?: boolean;
  /** Of the baseline: its `embed` is added to the encoded nodes, the others act in every layer. Default none. */
  readonly encoding?: PositionEncoding;
  readonly rng: Rng;
}

/**
 * A network that learns algorithms: `encode`, then layers `x = MLP([x, attention(x)])` that are all given the same
 * positions, then `decode`. There is no residual and no normalisation: with the attention fixed by the positions, scaling
 * the input scales every hidden unit up to biases, which is why it extrapolates in scale.
 *
 * The baseline (`positional: false`) has queries and keys of the tokens, each head `embedDim` wide, and the positions
 * appended to the input.
 *
 * Source: Back de Luca et al. (ICML 2025, arXiv 2410.01686).
 */
export class PositionalTransformer extends Module<[Tensor, Tensor | readonly Tensor[]]> {
  readonly positional: boolean;
  readonly encoding: Linear;
  readonly transformer_layers: readonly Layer[];
  readonly decoding: Linear;
  readonly #inputDim: number;
  readonly #positionDim: number;
  readonly #positions: PositionEncoding | undefined;

  /** @throws ConfigError for a size out of range, heads that do not divide, or an encoding where attention is positional. */
  constructor(options: PositionalTransformerOptions) {
    super();
    checkRng('PositionalTransformer', checkOptions('PositionalTransformer', options).rng);
    const { inputDim, embedDim, outputDim, numHeads, numLayers, mlpHidden, mlpLayers = 2, positionDim, rng } = options;
    const sizes = { inputDim, outputDim, numLayers, mlpHidden, mlpLayers, positionDim };
    for (const [name, size] of Object.entries(sizes)) checkInteger('PositionalTransformer', name, size);
    checkHeads('PositionalTransformer', embedDim, numHeads);
    const { positional = true, encoding } = options;
    checkChoice('PositionalTransformer', 'positional', positional, [true, false]);
    if (encoding !== undefined) checkEncoding('PositionalTransformer', encoding);
    if (positional && encoding !== undefined) {
      throw new ConfigError('PositionalTransformer: encoding acts in the attention of positional: false alone.');
    }
    this.positional = positional;
    this.#positions = encoding;
    this.#inputDim = inputDim;
    this.#positionDim = positionDim;
    const appended = this.positional ? 0 : positionDim;
    this.encoding = new Linear(inputDim + appended, embedDim, { rng: rng.fork('encoding') });
    this.transformer_layers = Array.from({ length: numLayers }, (_, layer) => {
      const own = rng.fork('layers').fork(layer);
      const attn = this.positional
        ? new PositionalAttention({ embedDim, positionDim, numHeads, rng: own.fork('attn') })
        : new TokenAttention({ embedDim, numHeads, encoding, layer, rng: own.fork('attn') });
      return new Layer(attn, new ConcatMlp(embedDim, mlpHidden, mlpLayers, own.fork('mlp')));
    });
    this.decoding = new Linear(embedDim, outputDim, { rng: rng.fork('decoding') });
  }

  /**
   * `[batch, T, inputDim]` to `[batch, T, outputDim]`.
   * @param positions `[T, positionDim]`, or what `cacheWeights` made of them.
   * @throws ShapeError unless there is a position for each token or weights for each layer, ConfigError for weights given to
   * the baseline.
   */
  override forward(x: Tensor, positions: Tensor | readonly Tensor[]): Tensor {
    if (x.rank !== 3 || x.shape[2] !== this.#inputDim) {
      throw new ShapeError(`This network takes [batch, T, ${this.#inputDim}], not [${x.shape}].`);
    }
    const layers = this.transformer_layers.length;
    if (this.positional && !(positions instanceof Tensor) && positions?.length !== layers) {
      throw new ShapeError(
        `This network takes positions, or weights for its ${layers} layers, not ${positions?.length}.`,
      );
    }
    const routing = (layer: number): Tensor => (positions instanceof Tensor ? positions : positions[layer]);
    const encoded = this.encoding.apply(this.positional ? x : this.#withPositions(x, positions));
    let y = embedPositions('PositionalTransformer', encoded, this.#positions);
    for (const [i, layer] of this.transformer_layers.entries()) y = layer.apply(y, routing(i));
    return this.decoding.apply(y);
  }

  /**
   * The attention of every layer, `[numHeads, T, T]` each, to be given to `forward` in place of the positions as long as the
   * parameters stay: what is left per batch are values, mixing and MLPs. The caller disposes of them.
   * @throws ConfigError for the baseline, whose attention depends on the input.
   */
  cacheWeights(positions: Tensor): Tensor[] {
    return tidy(() =>
      this.transformer_layers.map(({ attn }) => {
        if (attn instanceof PositionalAttention) return attn.weights(positions);
        throw new ConfigError('cacheWeights: the attention of positional: false depends on the input.');
      }),
    );
  }

  #withPositions(x: Tensor, positions: Tensor | readonly Tensor[]): Tensor {
    if (!(positions instanceof Tensor)) throw new ConfigError('This network has positional: false; give it positions.');
    const { shape } = positions;
    const [batch, length] = x.shape;
    if (String(shape) !== String([length, this.#positionDim])) {
      throw new ShapeError(`${length} nodes need positions [${length}, ${this.#positionDim}], not [${shape}].`);
    }
    return concat([x, broadcastTo(positions, [batch, ...shape])], 2);
  }
}

/** `mlp([x, attn(x)])`. */
class Layer extends Module<[Tensor, Tensor]> {
  readonly attn: PositionalAttention | TokenAttention;
  readonly mlp: ConcatMlp;

  constructor(attn: PositionalAttention | TokenAttention, mlp: ConcatMlp) {
    super();
    this.attn = attn;
    this.mlp = mlp;
  }

  override forward(x: Tensor, routing: Tensor): Tensor {
    return this.mlp.apply(x, this.attn.apply(x, routing));
  }
}

/** A ReLU network on two inputs side by side. */
class ConcatMlp extends Module<[Tensor, Tensor]> {
  readonly mlp: Sequential;

  constructor(dim: number, hidden: number, layers: number, rng: Rng) {
    super();
    const widths = [2 * dim, ...Array<number>(layers - 1).fill(hidden), dim];
    this.mlp = new Sequential(
      widths.slice(1).flatMap((width, i) => {
        const linear = new Linear(widths[i], width, { rng: rng.fork(i) });
        return i === 0 ? [linear] : [relu, linear];
      }),
    );
  }

  override forward(x: Tensor, y: Tensor): Tensor {
    return this.mlp.apply(concat([x, y], 2));
  }
}

interface TokenAttentionOptions {
  embedDim: number;
  numHeads: number;
  encoding: PositionEncoding | undefined;
  layer: number;
  rng: Rng;
}

/** The baseline's attention: queries and keys of the tokens, each head `embedDim` wide. */
class TokenAttention extends Module<[Tensor, Tensor]> {
  readonly qk_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly #options: TokenAttentionOptions;

  constructor(options: TokenAttentionOptions) {
    super();
    const { embedDim, numHeads, rng } = options;
    this.#options = options;
    this.qk_proj = projection(embedDim, 2 * embedDim * numHeads, rng.fork('qk_proj'));
    this.v_proj = projection(embedDim, embedDim, rng.fork('v_proj'));
    this.o_proj = projection(embedDim, embedDim, rng.fork('o_proj'));
  }

  override forward(x: Tensor): Tensor {
    const { embedDim, numHeads, encoding, layer } = this.#options;
    const qk = splitHeads(this.qk_proj.apply(x), numHeads);
    const [q, k] = [0, embedDim].map((from) => slice(qk, [0, 0, 0, from], [-1, -1, -1, embedDim]));
    const v = splitHeads(this.v_proj.apply(x), numHeads);
    return this.o_proj.apply(mergeHeads(attend(q, k, v, { encoding, layer })));
  }
}
