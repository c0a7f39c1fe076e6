import { Conv2d, convolve2d } from '@ashlar/nn';
import { ConfigError, concat, matMul, mul, type Parameter, type Rng, reshape, type Tensor } from '@ashlar/tensor';
import { type LoraAdapterOptions, LoraLayer } from './layer.ts';
import { parametersOf } from './linear.ts';

/**
 * LoRA on a 2-D convolution (OIHW): `lora_A` is a convolution to `r` channels with the base's kernel, stride, padding and
 * dilation, `lora_B` a 1x1 convolution to the outputs; `delta[o, i, y, x] = s sum_k B[o, k] A[k, i, y, x]`.
 */
export class LoraConv2d extends LoraLayer<Conv2d> {
  readonly lora_A: Record<string, Conv2d> = {};
  readonly lora_B: Record<string, Conv2d> = {};

  protected override get outputAxis(): number {
    return 0;
  }

  protected override get magnitudeShape(): number[] {
    return [1, this.base_layer.weight.shape[0], 1, 1];
  }

  protected override addFactors(name: string, { r, loraBias }: LoraAdapterOptions, rng: Rng): void {
    const { inChannels, outChannels, kernelSize, stride, padding, dilation, groups } = this.base_layer;
    this.lora_A[name] = new Conv2d(inChannels, r, kernelSize, {
      stride,
      padding,
      dilation,
      bias: false,
      rng: rng.fork('A'),
    });
    this.lora_B[name] = new Conv2d(r, outChannels, 1, { groups, bias: loraBias, rng: rng.fork('B') });
  }

  protected override removeFactors(name: string): void {
    delete this.lora_A[name];
    delete this.lora_B[name];
  }

  protected override lowRank(name: string, x: Tensor): Tensor {
    return this.lora_B[name].apply(this.lora_A[name].apply(x));
  }

  protected override lowRankRows(names: readonly string[], factors: Tensor, x: Tensor): Tensor {
    if (this.base_layer.groups > 1) throw new ConfigError('Rows of adapters do not go with a grouped convolution.');
    const A = concat(names.map((name) => this.lora_A[name].weight.value));
    const B = concat(
      names.map((name) => this.lora_B[name].weight.value),
      1,
    );
    const hidden = convolve2d(x, A, this.lora_A[names[0]]);
    return convolve2d(mul(hidden, reshape(factors, [...factors.shape, 1, 1])), B);
  }

  protected override lowRankDelta(name: string): Tensor {
    if (this.base_layer.groups > 1) {
      throw new ConfigError('A low-rank update of a grouped convolution is not a grouped weight: it cannot be merged.');
    }
    const { A, B } = this.factors(name);
    const [outChannels, r] = B.shape;
    return reshape(matMul(reshape(B.value, [outChannels, r]), reshape(A.value, [r, -1])), this.base_layer.weight.shape);
  }

  override factors(name: string): { A: Parameter; B: Parameter } {
    return { A: this.lora_A[name].weight, B: this.lora_B[name].weight };
  }

  override adapterParameters(name: string): Map<string, Parameter> {
    return parametersOf(name, this.lora_A, this.lora_B, this.lora_magnitude_vector);
  }
}
