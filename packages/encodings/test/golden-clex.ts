import {
  concat,
  cos,
  grad,
  lossAndGrads,
  mul,
  Rng,
  range,
  reshape,
  sin,
  slice,
  stack,
  sum,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
} from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { Clex, ntkPrior, spreadPositions } from '../src/clex.ts';

interface ClexCase extends GoldenInputs {
  dim: number;
  original_length: number;
  base: number;
  activation: 'silu' | 'tanh';
  step_size: number;
  max_factor: number;
  up: Tensor;
  down: Tensor;
}

function clexOf(inputs: ClexCase): Clex {
  const { dim: headDim, original_length: originalLength, base, activation, step_size: stepSize, up, down } = inputs;
  const clex = new Clex({
    headDim,
    originalLength,
    base,
    activation,
    stepSize,
    maxFactor: inputs.max_factor,
    hiddenFactor: (up.shape[1] as number) / headDim,
    rng: new Rng(0),
  });
  clex.up.assign(up.clone());
  clex.down.assign(down.clone());
  return clex;
}

/** `sum(out * weight)` and its gradients. */
function gradients(clex: Clex, weight: Tensor, out: () => Tensor): GoldenOutputs {
  const { loss, grads } = lossAndGrads(() => sum(mul(out(), weight)), clex.trainableParameters());
  const outputs = { loss: reshape(loss, [1]), 'grad.up': grads.get('up'), 'grad.down': grads.get('down') };
  loss.dispose();
  return outputs as GoldenOutputs;
}

/** Cosines and sines of the whole head, `[positions, dim]`. */
function tables(positions: Tensor, frequencies: Tensor): [Tensor, Tensor] {
  const angles = mul(reshape(positions, [-1, 1]), frequencies);
  const both = concat([angles, angles], 1);
  return [cos(both), sin(both)];
}

/** Row `k`, from 1, counts `k` times in the loss. */
function frequencies(inputs: ClexCase & { times: number[]; loss_weight: Tensor }): GoldenOutputs {
  const { times, loss_weight } = inputs;
  const clex = clexOf(inputs);
  const weight = tidy(() => mul(loss_weight, reshape(range(1, times.length + 1), [-1, 1])));
  const outputs = {
    frequencies: clex.frequencies(times),
    ...gradients(clex, weight, () => clex.frequencies(times)),
  };
  weight.dispose();
  clex.dispose();
  return outputs;
}

export const clexGolden = defineGolden({
  'clex/ode_right_hand_side': (inputs: ClexCase & { t: number; log_frequency: Tensor; loss_weight: Tensor }) => {
    const clex = clexOf(inputs);
    const { t, log_frequency, loss_weight } = inputs;
    const { value, slope } = ntkPrior(t, clex.headDim, clex.ntkBase);
    const outputs = {
      log_ntk: tensor1d(value),
      dlog_ntk_dt: tensor1d(slope),
      out: clex.derivative(t, log_frequency),
      'grad.log_frequency': grad((z) => sum(mul(clex.derivative(t, z), loss_weight)))(log_frequency),
      ...gradients(clex, loss_weight, () => clex.derivative(t, log_frequency)),
    };
    clex.dispose();
    return outputs;
  },

  'clex/continuous_frequencies': frequencies,

  'clex/zero_init_is_ntk': (inputs: ClexCase & { times: number[]; loss_weight: Tensor }) => {
    const { dim, base, times } = inputs;
    const closed = times.flatMap((t) =>
      Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim) * (2 * t - 1) ** ((-2 * i) / (dim - 2))),
    );
    return { ...frequencies(inputs), ntk_closed_form: tensor2d(closed, [times.length, dim / 2]) };
  },

  'clex/inference_tables': (inputs: ClexCase & { sequence_lengths: number[] }) => {
    const clex = clexOf(inputs).eval();
    const outputs: GoldenOutputs = {
      cached_frequencies: tidy(() =>
        stack(
          Array.from({ length: inputs.max_factor }, (_, i) =>
            clex.frequenciesForLength((i + 1) * inputs.original_length),
          ),
        ),
      ),
    };
    for (const length of inputs.sequence_lengths) {
      const rows = [0, 1, Math.floor(length / 2), length - 1];
      const [cosines, sines] = tidy(() => tables(tensor1d(rows), clex.frequenciesForLength(length)));
      Object.assign(outputs, {
        [`t_${length}`]: clex.factorFor(length),
        [`rows_${length}`]: rows,
        [`cos_${length}`]: cosines,
        [`sin_${length}`]: sines,
      });
    }
    clex.dispose();
    return outputs;
  },

  'clex/training_tables': (
    inputs: ClexCase & { sequence_length: number; t: number; sampled: Tensor; loss_weight: Tensor },
  ) => {
    const clex = clexOf(inputs);
    const { sequence_length: length, t, sampled, loss_weight } = inputs;
    const positions = tensor1d(spreadPositions(sampled.dataSync(), length, t, inputs.original_length));
    const both = (): Tensor =>
      tidy(() => {
        const last = reshape(slice(clex.frequencies(t === 1 ? [1] : [1, t]), [t === 1 ? 0 : 1, 0], [1, -1]), [-1]);
        return stack(tables(positions, last));
      });
    const [cosines, sines] = tidy(() => {
      const all = both();
      return [0, 1].map((i) => reshape(slice(all, [i, 0, 0], [1, -1, -1]), [length, inputs.dim]));
    });
    const outputs = { positions, cos: cosines, sin: sines, ...gradients(clex, loss_weight, both) };
    clex.dispose();
    return outputs;
  },
});
