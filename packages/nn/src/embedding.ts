import { gatherRows, Module, Parameter, type Rng, type Tensor } from '@ashlar/tensor';
import { type Initializer, normal_ } from './init.ts';
import { checkSizes } from './options.ts';

/** A table of vectors, `weight` `[numEmbeddings, embeddingDim]`: int32 ids `[...]` to `[..., embeddingDim]`. */
export class Embedding extends Module {
  readonly numEmbeddings: number;
  readonly embeddingDim: number;
  weight: Parameter;

  /** @param options.init default N(0, 1), as PyTorch. @throws ConfigError unless both sizes are positive integers. */
  constructor(numEmbeddings: number, embeddingDim: number, options: { rng: Rng; init?: Initializer }) {
    super();
    checkSizes('Embedding', { numEmbeddings, embeddingDim });
    const { rng, init = normal_() } = options;
    const shape = [numEmbeddings, embeddingDim];
    this.numEmbeddings = numEmbeddings;
    this.embeddingDim = embeddingDim;
    this.weight = new Parameter({ shape, init: () => init(shape, rng.fork('weight')) });
  }

  /** @throws ShapeError unless `ids` is int32. */
  override forward(ids: Tensor): Tensor {
    return gatherRows(this.weight.value, ids);
  }
}
