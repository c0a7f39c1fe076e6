/** Ways to adapt the Llama of `llama.mjs`, by name: each freezes what does not train. */
import { attach, gladGradients, lofit, lora, lowRankConv, ramt, sara, svfit } from '@ashlar/peft';

const all = { targetModules: 'all-linear' };
const low = { r: 8, loraAlpha: 16 };

export const ADAPTERS = {
  full: { attach() {} },
  head: {
    attach(model) {
      model.freeze();
      model.getSubmodule('lm_head').unfreeze();
    },
  },
  lora: { attach: (model) => attach(model, lora({ ...low, ...all })) },
  'lora-qv': { attach: (model) => attach(model, lora({ ...low, targetModules: ['q_proj', 'v_proj'] })) },
  dora: { attach: (model) => attach(model, lora({ ...low, ...all, useDora: true })) },
  // As many weights as LoRA has numbers; the low-rank term, whose decompositions are no part of a step, left out.
  sara: { attach: (model) => attach(model, sara({ fraction: 0.025, lambdaRank: 0 })) },
  ramt: { attach: (model) => attach(model, ramt()) },
  'low-rank': { attach: (model) => attach(model, lowRankConv({ r: 8, targetModules: 'all-linear' })) },
  // Random directions: finding the singular ones takes minutes, and a step does not ask which they are.
  svfit: { attach: (model) => attach(model, svfit({ r: 8, ...all, selection: 'random' })) },
  lofit: { attach: (model) => attach(model, lofit()) },
  'lora-glad': {
    attach: (model) => attach(model, lora({ ...low, ...all })),
    gradients(loss, parameters) {
      const { loss: value, grads, ...rest } = gladGradients(loss, parameters, { rho: 0.05 });
      for (const tensor of Object.values(rest)) tensor?.dispose();
      return { loss: value, grads };
    },
  },
};
