import { range, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { bidirectionalTargets, maskedSinusoidal2d, sinusoidalTable } from '../src/index.ts';

interface LabelCase extends GoldenInputs {
  expressions: string[];
  special_ids: { pad: number; sos: number; eos: number };
  token_ids: Record<string, number>;
}

export const posformerGolden = defineGolden({
  'posformer/position_forest_labels': (inputs: LabelCase): GoldenOutputs => {
    const { special_ids, token_ids } = inputs;
    const formulas = inputs.expressions.map((formula) => formula.split(' '));
    const targets = bidirectionalTargets(formulas, { ...special_ids, ids: new Map(Object.entries(token_ids)) });
    return {
      tgt: targets.input,
      out: targets.output,
      identifiers: targets.paths,
      identifier_matrix: targets.identifiers,
      level_of_input: targets.level,
      position_of_input: targets.position,
      level_target: targets.levelTarget,
      position_target: targets.positionTarget,
    };
  },

  'posformer/positional_encodings': (inputs: { mask: Tensor; d_model: number; word_len: number }) => ({
    image: maskedSinusoidal2d(inputs.mask, inputs.d_model),
    word: tidy(() => sinusoidalTable(range(0, inputs.word_len, 1, 'int32'), inputs.d_model, { layout: 'interleaved' })),
  }),
});
