import { mean, mul, neg, type Scalar, softplus, sub, type Tensor, tidy } from '@ashlar/tensor';
import { refuse } from '../check-options.ts';

/**
 * The loss of direct preference optimisation, the mean of
 * `-log sigmoid(beta [(log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))])`, from the summed
 * log-probabilities of whole answers, `[batch]` each; the reference is the frozen base.
 *
 * Source: Rafailov et al. 2023, arXiv 2305.18290; LoFiT trains with `beta` 0.5 for truthfulness.
 * @returns the loss, and the margin of the implicit rewards by example (the argument of the sigmoid).
 */
export function dpoLoss(
  policyChosen: Tensor,
  policyRejected: Tensor,
  referenceChosen: Tensor,
  referenceRejected: Tensor,
  beta = 0.5,
): { loss: Scalar; margin: Tensor } {
  if (!(beta > 0 && Number.isFinite(beta))) refuse('beta', beta, 'a finite number above 0');
  return tidy(() => {
    const chosen = sub(policyChosen, referenceChosen);
    const margin = mul(sub(chosen, sub(policyRejected, referenceRejected)), beta);
    return { loss: mean(softplus(neg(margin))) as Scalar, margin };
  });
}
