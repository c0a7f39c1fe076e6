import type { Embedding } from '@ashlar/nn';
import {
  ConfigError,
  concat,
  gatherRows,
  matMul,
  mul,
  Parameter,
  type Rng,
  reshape,
  type Tensor,
  transpose,
  zeros,
} from '@ashlar/tensor';
import { type LoraAdapterOptions, LoraLayer } from './layer.ts';

/**
 * LoRA on an embedding table `[vocab, dim]`: `lora_embedding_A` is `[r, vocab]` and starts at zero, `lora_embedding_B` is
 * `[dim, r]` and starts normal; row `t` gains `s B A[:, t]`. Its inputs are indices, so there is no dropout.
 */
export class LoraEmbedding extends LoraLayer<Embedding> {
  readonly lora_embedding_A: Record<string, Parameter> = {};
  readonly lora_embedding_B: Record<string, Parameter> = {};

  protected override get outputAxis(): number {
    return 1;
  }

  protected override get magnitudeShape(): number[] {
    return [this.base_layer.weight.shape[1]];
  }

  override addAdapter(name: string, options: LoraAdapterOptions, rng: Rng): void {
    super.addAdapter(name, { ...options, loraDropout: 0 }, rng);
  }

  protected override addFactors(name: string, options: LoraAdapterOptions, rng: Rng): void {
    if (options.loraBias)
      throw new ConfigError('loraBias does not go with an embedding; leave it out of targetModules.');
    const [vocab, dim] = this.base_layer.weight.shape;
    this.lora_embedding_A[name] = new Parameter({ shape: [options.r, vocab], init: () => zeros([options.r, vocab]) });
    this.lora_embedding_B[name] = new Parameter({
      shape: [dim, options.r],
      init: () => rng.fork('B').normal([dim, options.r]),
    });
  }

  protected override removeFactors(name: string): void {
    delete this.lora_embedding_A[name];
    delete this.lora_embedding_B[name];
  }

  protected override lowRank(name: string, ids: Tensor): Tensor {
    const { A, B } = this.factors(name);
    const rows = gatherRows(transpose(A.value), reshape(ids, [-1]));
    return reshape(matMul(rows, B.value, false, true), [...ids.shape, B.shape[0]]);
  }

  protected override lowRankRows(names: readonly string[], factors: Tensor, ids: Tensor): Tensor {
    const A = concat(names.map((name) => this.lora_embedding_A[name].value));
    const B = concat(
      names.map((name) => this.lora_embedding_B[name].value),
      1,
    );
    const [batch, rank] = factors.shape as [number, number];
    const hidden = reshape(gatherRows(transpose(A), reshape(ids, [-1])), [batch, -1, rank]);
    const chosen = reshape(mul(hidden, reshape(factors, [batch, 1, rank])), [-1, rank]);
    return reshape(matMul(chosen, B, false, true), [...ids.shape, B.shape[0]]);
  }

  protected override lowRankDelta(name: string): Tensor {
    const { A, B } = this.factors(name);
    return matMul(A.value, B.value, true, true);
  }

  override factors(name: string): { A: Parameter; B: Parameter } {
    return { A: this.lora_embedding_A[name], B: this.lora_embedding_B[name] };
  }

  override adapterParameters(name: string): Map<string, Parameter> {
    const { A, B } = this.factors(name);
    const named = new Map([
      ['lora_embedding_A', A],
      ['lora_embedding_B', B],
    ]);
    if (name in this.lora_magnitude_vector) named.set('lora_magnitude_vector', this.lora_magnitude_vector[name]);
    return named;
  }
}
