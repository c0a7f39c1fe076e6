import { type Tensor, tensor2d } from '@ashlar/tensor';
import { defineGolden, type GoldenJson } from '../../../tooling/golden/src/define-golden.ts';
import type { JsonTensor } from '../../../tooling/golden/src/golden-json.ts';
import { type AlgorithmicTask, algorithmicTargets, type ThreeCells, threeCellLabels } from '../src/index.ts';
import { lengthTasksGolden } from './golden-length-tasks.ts';

export default defineGolden({
  ...lengthTasksGolden,

  /** One row for each input; after `n` numbers (`2 n` for minsum) come scratch nodes, whose target is 0. */
  'positional-attention/task_targets': (_, raw: { [name: string]: GoldenJson }) =>
    Object.fromEntries(
      Object.entries(raw).flatMap(([name, value]) => {
        if (name === 'n') return [];
        const [task, cumulative] = name.split('_') as [AlgorithmicTask, string?];
        const { shape, data } = value as unknown as JsonTensor;
        const numbers = data.slice(0, (raw.n as number) * (task === 'minsum' ? 2 : 1)).map(Number);
        const targets = algorithmicTargets(task, numbers, { cumulative: cumulative !== undefined });
        return [[name, { shape, data: data.map((_, i) => targets[i] ?? 0) }]];
      }),
    ),

  'loope/three_cell_labels': ({ grid, cells }: { grid: number; cells: Tensor }) => ({
    labels: tensor2d((cells.arraySync() as unknown as ThreeCells[]).map((three) => threeCellLabels(three, grid))),
  }),
});
