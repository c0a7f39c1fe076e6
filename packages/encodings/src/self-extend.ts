import { checkInteger } from '@ashlar/tensor';
import { farKeyPlace, farQueryPlace } from './dpe.ts';
import { isNear, type Region, RegionalRope, type RegionalRopeOptions, truePlace } from './regional-rope.ts';

/**
 * Self-Extend: keys closer than `window` keep their distance, those farther away are seen in groups of `group` tokens, at the
 * distance `floor(i / g) - floor(j / g) + w - w / g`. For rotary models past their trained length, without training.
 *
 * Source: Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning" (2024, arXiv 2401.01325).
 */
export class SelfExtend extends RegionalRope {
  readonly group: number;
  readonly window: number;

  /** @throws ConfigError for an option out of range, ShapeError if the channels cannot be paired. */
  constructor(options: RegionalRopeOptions & { readonly group: number; readonly window: number }) {
    super(options);
    const { group, window } = options;
    checkInteger('SelfExtend', 'group', group);
    checkInteger('SelfExtend', 'window', window);
    this.group = group;
    this.window = window;
  }

  protected override regions(): Region[] {
    const { group, window } = this;
    return [
      { query: truePlace, key: truePlace, mask: (query, key) => isNear(query, key, window) },
      {
        query: (position) => farQueryPlace(position, group, window),
        key: (position) => farKeyPlace(position, group),
      },
    ];
  }
}
