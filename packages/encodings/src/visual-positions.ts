import {
  ConfigError,
  checkChoice,
  checkInteger,
  checkOptions,
  gatherRows,
  Module,
  mul,
  Parameter,
  quote,
  reshape,
  type Tensor,
  tensor1d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { checkGrid, MOST } from './positions.ts';

const SCHEMES = ['original', 'share_all', 'share_by_row', 'share_by_row_col'] as const;

/**
 * How the visual tokens of a picture take positions from a language model's context.
 * - `original`: one each.
 * - `share_all`: all tokens of a grid share one.
 * - `share_by_row`: the tokens of a row share one.
 * - `share_by_row_col`: as `share_by_row`, with a learned vector for the column added (`ColumnEmbedding`).
 */
export type VisualScheme = (typeof SCHEMES)[number];

export interface VisualPositions {
  /** Position of each token of the sequence; pass it on as int32 `[seq]`. */
  readonly ids: Int32Array;
  /** Column of each visual token in its grid, -1 for text. */
  readonly columnIndex: Int32Array;
  /** Positions that the sequence takes; the next token's is this one. */
  readonly used: number;
  /** Positions that the visual tokens take. */
  readonly usedByVision: number;
}

/**
 * Positions of a sequence of text, grids of visual tokens (row by row, one grid after another), and text. The causal mask
 * goes by the order of the tokens, so leave attention's `causal` at `true`, and when decoding continue at `used`.
 *
 * Source: Fan et al., "MouSi: Poly-visual-expert vision-language models" (2024, arXiv 2401.17221); its code was not
 * released: the exact indexing is reconstructed from the occupancies that the paper names.
 * @throws ConfigError for an unknown scheme, no grids or a size out of range.
 */
export function visualPositions(options: {
  /** Text tokens before the picture. */
  readonly textBefore: number;
  readonly grids: readonly { readonly rows: number; readonly columns: number }[];
  /** Text tokens after it. */
  readonly textAfter: number;
  /** Default `'share_by_row'`. */
  readonly scheme?: VisualScheme;
}): VisualPositions {
  const { textBefore, grids, textAfter, scheme = 'share_by_row' } = checkOptions('visualPositions', options);
  checkChoice('visualPositions', 'scheme', scheme, SCHEMES);
  checkInteger('visualPositions', 'textBefore', textBefore, 0, MOST);
  checkInteger('visualPositions', 'textAfter', textAfter, 0, MOST);
  if (!Array.isArray(grids) || grids.length === 0) {
    throw new ConfigError(`visualPositions: grids is ${quote(grids)}; give a list of one for each expert.`);
  }
  const ids: number[] = Array.from({ length: textBefore }, (_, i) => i);
  const columnIndex: number[] = Array(textBefore).fill(-1);
  let next = textBefore;
  for (const [i, grid] of grids.entries()) {
    const { rows, columns } = checkOptions(`visualPositions: grids[${i}]`, grid);
    checkInteger('visualPositions', `grids[${i}].rows`, rows);
    checkInteger('visualPositions', `grids[${i}].columns`, columns);
    checkGrid('visualPositions', `grids[${i}]`, [rows, columns]);
    const start = next;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const place = scheme === 'original' ? row * columns + column : scheme === 'share_all' ? 0 : row;
        ids.push(start + place);
        columnIndex.push(column);
        next = start + place + 1;
      }
    }
  }
  const usedByVision = next - textBefore;
  for (let i = 0; i < textAfter; i++) {
    ids.push(next++);
    columnIndex.push(-1);
  }
  return { ids: Int32Array.from(ids), columnIndex: Int32Array.from(columnIndex), used: next, usedByVision };
}

/** A learned vector for each column of a grid, added to its visual tokens (`share_by_row_col`). Starts at zero. */
export class ColumnEmbedding extends Module<[ArrayLike<number>]> {
  /** `[maxColumns, dim]`. */
  readonly weight: Parameter;

  constructor(options: { readonly maxColumns: number; readonly dim: number }) {
    super();
    const { maxColumns, dim } = checkOptions('ColumnEmbedding', options);
    checkInteger('ColumnEmbedding', 'maxColumns', maxColumns);
    checkInteger('ColumnEmbedding', 'dim', dim);
    this.weight = new Parameter({ shape: [maxColumns, dim], init: () => zeros([maxColumns, dim]) });
  }

  /**
   * What to add to tokens whose columns are `columnIndex`, `[seq, dim]`: nothing where it is -1.
   * @throws ConfigError for a column beyond the table, or what is no list.
   */
  forward(columnIndex: ArrayLike<number>): Tensor {
    const [maxColumns] = this.weight.shape;
    if (!Array.isArray(columnIndex) && !ArrayBuffer.isView(columnIndex)) {
      throw new ConfigError('ColumnEmbedding: columnIndex must be a list of numbers, as visualPositions gives it.');
    }
    const columns = Array.from(columnIndex);
    const beyond = columns.find((column) => !Number.isInteger(column) || column < -1 || column >= maxColumns);
    if (beyond !== undefined) {
      throw new ConfigError(
        `ColumnEmbedding: column ${beyond} is outside the table of ${maxColumns} (maxColumns); make it larger.`,
      );
    }
    return tidy(() => {
      const rows = gatherRows(
        this.weight.value,
        tensor1d(
          columns.map((column) => Math.max(column, 0)),
          'int32',
        ),
      );
      return mul(rows, reshape(tensor1d(columns.map((column) => (column < 0 ? 0 : 1))), [-1, 1]));
    });
  }
}
