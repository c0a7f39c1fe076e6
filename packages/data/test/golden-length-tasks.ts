import { defineGolden, type GoldenJson } from '../../../tooling/golden/src/define-golden.ts';
import { type LengthProblem, type Scratchpad, writeProblem } from '../src/index.ts';

type Fields = Readonly<Record<string, GoldenJson>>;

const symbols = (sequence: GoldenJson): string[] => (sequence as string).split(' ');

/** How the problems of each form are written, by the first words of their name. */
const FORMS: Record<string, (fields: Fields, scratchpad?: Scratchpad) => LengthProblem> = {
  addition: ({ a, b }, scratchpad) =>
    writeProblem('addition', { a: BigInt(a as number), b: BigInt(b as number) }, scratchpad),
  sum: ({ values }, scratchpad) => writeProblem('sum', { values: values as number[] }, scratchpad),
  parity: ({ values }, scratchpad) => writeProblem('parity', { values: values as number[] }, scratchpad),
  polynomial: ({ coeffs, degrees, x }, scratchpad) =>
    writeProblem(
      'polynomial',
      { coeffs: coeffs as number[], degrees: degrees as number[], x: x as number },
      scratchpad,
    ),
  lego: ({ clauses, query }, scratchpad) =>
    writeProblem('lego', { clauses: clauses as string[], query: query as string }, scratchpad),
  sort_single: ({ src_seq, token_ids }, scratchpad) => {
    const [items, ids] = [src_seq as string[], token_ids as number[]];
    const order = [...items.keys()].sort((a, b) => ids[a] - ids[b]).map((i) => items[i]);
    return writeProblem('sort-symbols', { items, order }, scratchpad);
  },
  sort_multi: ({ src_seq }, scratchpad) => writeProblem('sort-numbers', { items: src_seq as number[] }, scratchpad),
  copy_replace: ({ src_seq, tgt_seq }) =>
    writeProblem('replace', { source: symbols(src_seq), target: symbols(tgt_seq) }),
  copy: ({ src_seq, tgt_seq }) => writeProblem('copy', { source: symbols(src_seq), target: symbols(tgt_seq) }),
  reverse: ({ src_seq, tgt_seq }) => writeProblem('reverse', { source: symbols(src_seq), target: symbols(tgt_seq) }),
};

const NO_SCRATCHPAD = ['copy_replace', 'copy', 'reverse'];

const golden = ({ prompt, target }: LengthProblem): { source: string; target: string } => ({ source: prompt, target });

export const lengthTasksGolden = defineGolden({
  'length-generalization/task_prompts': (_, raw: { [name: string]: GoldenJson }) =>
    Object.fromEntries(
      Object.entries(raw).map(([name, instance]) => {
        const form = Object.keys(FORMS).find((prefix) => name.startsWith(prefix));
        if (form === undefined) throw new Error(`unknown form '${name}'`);
        const write = (scratchpad?: Scratchpad): { source: string; target: string } =>
          golden(FORMS[form](instance as Fields, scratchpad));
        return [name, { plain: write(), ...(!NO_SCRATCHPAD.includes(form) && { scratchpad: write(true) }) }];
      }),
    ),
});
