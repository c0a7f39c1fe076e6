import { checkInteger, checkNumber } from '@ashlar/tensor';
import { isNear, type Region, RegionalRope, type RegionalRopeOptions, truePlace } from './regional-rope.ts';

export interface ReRopeOptions extends RegionalRopeOptions {
  /** Keys closer than this keep their distance. */
  readonly window: number;
  /**
   * Leaky ReRoPE: beyond the window the distance grows by `1 / group` a token. Default `Infinity`: not at all.
   */
  readonly group?: number;
  /** Queries are multiplied by `max(1, ln(i + 1) / ln(trainedLength))`. Default: they are not. */
  readonly trainedLength?: number;
}

/**
 * ReRoPE: relative distances end at `window`: `min(i - j, w)`; with `group` they leak on, `w + (i - j - w) / g`. For rotary models
 * past their trained length, without training.
 *
 * Source: Su, "Rectified Rotary Position Embeddings" (2023), github.com/bojone/rerope.
 */
export class ReRope extends RegionalRope {
  readonly window: number;
  readonly group: number;
  readonly trainedLength: number | undefined;

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor(options: ReRopeOptions) {
    super(options);
    const { window, group = Infinity, trainedLength } = options;
    checkInteger('ReRope', 'window', window);
    if (group !== Infinity) checkNumber('ReRope: group', group, { min: 1 });
    if (trainedLength !== undefined) checkNumber('ReRope: trainedLength', trainedLength, { above: 1 });
    this.window = window;
    this.group = group;
    this.trainedLength = trainedLength;
  }

  protected override queryScale(position: number): number {
    return this.trainedLength === undefined ? 1 : Math.max(1, Math.log(position + 1) / Math.log(this.trainedLength));
  }

  protected override regions(): Region[] {
    const { window, group } = this;
    return [
      { query: truePlace, key: truePlace, mask: (query, key) => isNear(query, key, window) },
      {
        query: (position) => position / group + window - window / group,
        key: (position) => position / group,
      },
    ];
  }
}
