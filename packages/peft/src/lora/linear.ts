import { Conv1D, Linear } from '@ashlar/nn';
import { concat, matMul, mul, type Parameter, type Rng, reshape, type Tensor, transpose } from '@ashlar/tensor';
import { type LoraAdapterOptions, LoraLayer } from './layer.ts';

/**
 * LoRA on a linear layer: `lora_A` is `[r, in]`, `lora_B` is `[out, r]`, `delta(W) = s B A`, transposed where the base
 * stores `[in, out]` (GPT-2's `Conv1D`; `fan_in_fan_out` in `peft`).
 */
export class LoraLinear extends LoraLayer<Linear | Conv1D> {
  readonly lora_A: Record<string, Linear> = {};
  readonly lora_B: Record<string, Linear> = {};

  /** Whether the base stores its weight as `[in, out]`. */
  get fanInFanOut(): boolean {
    return this.base_layer instanceof Conv1D;
  }

  protected override get outputAxis(): number {
    return this.fanInFanOut ? 1 : 0;
  }

  protected override get magnitudeShape(): number[] {
    return [this.base_layer.weight.shape[this.outputAxis]];
  }

  protected override addFactors(name: string, { r, loraBias }: LoraAdapterOptions, rng: Rng): void {
    const { shape } = this.base_layer.weight;
    this.lora_A[name] = new Linear(shape[1 - this.outputAxis], r, { bias: false, rng: rng.fork('A') });
    this.lora_B[name] = new Linear(r, shape[this.outputAxis], { bias: loraBias, rng: rng.fork('B') });
  }

  protected override removeFactors(name: string): void {
    delete this.lora_A[name];
    delete this.lora_B[name];
  }

  protected override lowRank(name: string, x: Tensor): Tensor {
    return this.lora_B[name].apply(this.lora_A[name].apply(x));
  }

  protected override lowRankRows(names: readonly string[], factors: Tensor, x: Tensor): Tensor {
    const A = concat(names.map((name) => this.lora_A[name].weight.value));
    const B = concat(
      names.map((name) => this.lora_B[name].weight.value),
      1,
    );
    const [batch, rank] = factors.shape as [number, number];
    const hidden = matMul(reshape(x, [-1, A.shape[1] as number]), A, false, true);
    const chosen = mul(reshape(hidden, [batch, -1, rank]), reshape(factors, [batch, 1, rank]));
    return reshape(matMul(reshape(chosen, [-1, rank]), B, false, true), [...x.shape.slice(0, -1), B.shape[0]]);
  }

  protected override lowRankDelta(name: string): Tensor {
    const { A, B } = this.factors(name);
    const product = matMul(B.value, A.value);
    return this.fanInFanOut ? transpose(product) : product;
  }

  override factors(name: string): { A: Parameter; B: Parameter } {
    return { A: this.lora_A[name].weight, B: this.lora_B[name].weight };
  }

  override adapterParameters(name: string): Map<string, Parameter> {
    return parametersOf(name, this.lora_A, this.lora_B, this.lora_magnitude_vector);
  }
}

/** The parameters of one adapter whose factors are layers with a weight (and a bias), under their names in a file. */
export function parametersOf(
  name: string,
  A: Record<string, { weight: Parameter }>,
  B: Record<string, { weight: Parameter; bias?: Parameter }>,
  magnitude: Record<string, Parameter>,
): Map<string, Parameter> {
  const named = new Map([
    ['lora_A.weight', A[name].weight],
    ['lora_B.weight', B[name].weight],
  ]);
  if (B[name].bias !== undefined) named.set('lora_B.bias', B[name].bias);
  if (name in magnitude) named.set('lora_magnitude_vector', magnitude[name]);
  return named;
}
