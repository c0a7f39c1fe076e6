import { Embedding, embedPositions, LayerNorm, Linear, Sequential } from '@ashlar/nn';
import {
  add,
  ConfigError,
  cast,
  checkEncoding,
  checkInteger,
  checkNumber,
  checkOptions,
  checkRng,
  crossEntropy,
  div,
  equal,
  fill,
  gelu,
  Module,
  maximum,
  mul,
  notEqual,
  type PositionEncoding,
  quote,
  relu,
  reshape,
  ShapeError,
  sum,
  type Tensor,
  tidy,
  where,
} from '@ashlar/tensor';
import { keepSteps } from './attention-refinement.ts';
import { CoverageDecoder, type CoverageDecoderOptions } from './coverage-decoder.ts';

export interface PosformerDecoderOptions extends CoverageDecoderOptions {
  /** Its `embed` is added to the tokens; the paper's is sinusoidal, interleaved. */
  readonly encoding: PositionEncoding;
  /** The ids of `^`, `_` and `{`, whose steps cover nothing. Default none: CoMER. */
  readonly structuralTokens?: readonly number[];
  /** The id of padding. Default 0. */
  readonly pad?: number;
}

/** Features of images and which of their cells are padding (1): `[batch, height, width, dim]`, `[batch, height, width]`. */
export interface ImageMemory {
  readonly features: Tensor;
  readonly padding?: Tensor;
}

/** What both decoders share: position, norm and a coverage decoder on tokens that are embedded already. */
abstract class PosformerDecoder<Args extends unknown[], Out> extends Module<Args, Out> {
  readonly norm: LayerNorm;
  readonly model: CoverageDecoder;
  readonly #encoding: PositionEncoding;
  readonly #structural: readonly number[];
  readonly #pad: number;

  /** @throws ConfigError for an option out of range, or an encoding that acts in attention. */
  constructor(options: PosformerDecoderOptions) {
    super();
    const owner = new.target.name;
    checkRng(owner, checkOptions(owner, options).rng);
    const { dim = 256, encoding, structuralTokens = [], pad = 0, rng } = options;
    checkEncoding(owner, encoding);
    if (encoding.rotate !== undefined || encoding.bias !== undefined || encoding.scores !== undefined) {
      throw new ConfigError(
        `${owner}: the encoding acts on queries, keys or logits; take one with embed (Sinusoidal, LearnedAbsolute), which is ` +
          'added to the tokens.',
      );
    }
    checkNumber(`${owner}: pad`, pad, { integer: true });
    if (!Array.isArray(structuralTokens)) {
      throw new ConfigError(`${owner}: structuralTokens is ${quote(structuralTokens)}; it must be a list of ids.`);
    }
    for (const [i, id] of structuralTokens.entries()) {
      checkNumber(`${owner}: structuralTokens[${i}]`, id, { integer: true });
    }
    this.norm = new LayerNorm(dim);
    this.model = new CoverageDecoder({ ...options, rng: rng.fork('model') });
    this.#encoding = encoding;
    this.#structural = structuralTokens;
    this.#pad = pad;
  }

  protected decode(embedded: Tensor, tokens: Tensor, image: ImageMemory): { out: Tensor; attention: Tensor } {
    const { features, padding } = image;
    const [batch, height, width, dim] = features.shape as [number, number, number, number];
    const fits =
      features.rank === 4 &&
      tokens.rank === 2 &&
      tokens.shape[0] === batch &&
      (padding === undefined || String(padding.shape) === String([batch, height, width]));
    if (!fits) {
      throw new ShapeError(
        'This decoder takes tokens [batch, T], features [batch, height, width, dim] and padding [batch, height, width], not ' +
          `[${tokens.shape}], [${features.shape}] and [${padding?.shape ?? ''}].`,
      );
    }
    return this.model.apply(this.norm.apply(embedPositions(this.constructor.name, embedded, this.#encoding)), {
      memory: reshape(features, [batch, height * width, dim]),
      height,
      padding: padding && reshape(padding, [batch, height * width]),
      keep: this.#structural.length === 0 ? undefined : keepSteps(tokens, this.#structural),
      tokenPadding: cast(equal(tokens, this.#pad), 'float32'),
    });
  }
}

/**
 * The decoder that writes the formula, teacher-forced: int32 tokens `[batch, T]` to logits `[batch, T, vocabSize]`, with the
 * last layer's attention `[batch, heads, T, cells]`.
 *
 * Source: Guan et al., "PosFormer" (ECCV 2024, arXiv 2407.07764).
 */
export class SymbolDecoder extends PosformerDecoder<[Tensor, ImageMemory], { logits: Tensor; attention: Tensor }> {
  readonly word_embed: Sequential;
  readonly proj: Linear;

  constructor(options: PosformerDecoderOptions & { readonly vocabSize: number }) {
    super(options);
    const { vocabSize, dim = 256, rng } = options;
    checkInteger('SymbolDecoder', 'vocabSize', vocabSize);
    const table = new Embedding(vocabSize, dim, { rng: rng.fork('word_embed') });
    this.word_embed = new Sequential([table, new LayerNorm(dim)]);
    this.proj = new Linear(dim, vocabSize, { rng: rng.fork('proj') });
  }

  override forward(tokens: Tensor, image: ImageMemory): { logits: Tensor; attention: Tensor } {
    const { out, attention } = this.decode(this.word_embed.apply(tokens), tokens, image);
    return { logits: this.proj.apply(out), attention };
  }
}

/**
 * The decoder that training adds: from the identifiers of the tokens so far (`positionForest`), `[batch, T, maxDepth]`, to
 * logits of the next token's nesting level, `[batch, T, maxDepth]`, and relative position, `[batch, T, 6]`. Inference does
 * without it.
 *
 * Source: Guan et al., "PosFormer" (ECCV 2024, arXiv 2407.07764).
 */
export class PositionDecoder extends PosformerDecoder<
  [Tensor, Tensor, ImageMemory],
  { levels: Tensor; positions: Tensor; attention: Tensor }
> {
  readonly pos_embed: Sequential;
  readonly layernum_proj: Sequential;
  readonly pos_proj: Sequential;

  /** @param options.maxDepth default 5. @param options.headHidden width of the two heads' hidden layers, default 128. */
  constructor(options: PosformerDecoderOptions & { readonly maxDepth?: number; readonly headHidden?: number }) {
    super(options);
    const { dim = 256, maxDepth = 5, headHidden = 128, rng } = options;
    checkInteger('PositionDecoder', 'maxDepth', maxDepth, 2);
    checkInteger('PositionDecoder', 'headHidden', headHidden);
    const embed = new Linear(maxDepth, dim, { rng: rng.fork('pos_embed') });
    this.pos_embed = new Sequential([embed, (x) => gelu(x), new LayerNorm(dim)]);
    const head = (name: string, classes: number): Sequential =>
      new Sequential([
        new Linear(dim, headHidden, { rng: rng.fork(name).fork(0) }),
        relu,
        new Linear(headHidden, classes, { rng: rng.fork(name).fork(2) }),
      ]);
    this.layernum_proj = head('layernum_proj', maxDepth);
    this.pos_proj = head('pos_proj', 6);
  }

  override forward(
    identifiers: Tensor,
    tokens: Tensor,
    image: ImageMemory,
  ): { levels: Tensor; positions: Tensor; attention: Tensor } {
    const { out, attention } = this.decode(this.pos_embed.apply(identifiers), tokens, image);
    return { levels: this.layernum_proj.apply(out), positions: this.pos_proj.apply(out), attention };
  }
}

/** Three tensors that belong together: of tokens, of nesting levels and of relative positions. */
export interface PosformerSignals {
  readonly tokens: Tensor;
  readonly levels: Tensor;
  readonly positions: Tensor;
}

/**
 * `(CE_token + w CE_level + w CE_position) / (1 + 2 w)`, each a mean over the steps whose token is no padding; 0 if
 * there are none.
 * @param logits `[batch, T, classes]` each. @param targets int32 `[batch, T]` each, as `bidirectionalTargets` gives them.
 * @param options.pad the id of padding. Default 0. @param options.weight of the two auxiliary losses. Default 0.25.
 * @returns scalars: `total` and its parts. The caller disposes of them.
 * @throws ConfigError for an option out of range, ShapeError if the shapes do not fit.
 */
export function posformerLoss(
  logits: PosformerSignals,
  targets: PosformerSignals,
  options: { readonly pad?: number; readonly weight?: number } = {},
): PosformerSignals & { readonly total: Tensor } {
  const { pad = 0, weight = 0.25 } = options;
  checkNumber('posformerLoss: pad', pad, { integer: true });
  checkNumber('posformerLoss: weight', weight, { min: 0 });
  return tidy(() => {
    const mean = (logits: Tensor, labels: Tensor, ignoreIndex: number): Tensor => {
      const count = sum(cast(notEqual(labels, ignoreIndex), 'float32'));
      return div(crossEntropy(logits, labels, { ignoreIndex, reduction: 'sum' }), maximum(count, 1));
    };
    const tokens = mean(logits.tokens, targets.tokens, pad);
    const auxiliary = (logits: Tensor, labels: Tensor): Tensor =>
      mean(logits, where(equal(targets.tokens, pad), fill(labels.shape, -100, 'int32'), labels), -100);
    const levels = auxiliary(logits.levels, targets.levels);
    const positions = auxiliary(logits.positions, targets.positions);
    const total = div(add(tokens, mul(add(levels, positions), weight)), 1 + 2 * weight);
    return { tokens, levels, positions, total };
  });
}
