export interface EarlyStoppingOptions {
  /** Evaluations in a row without improvement after which training stops. */
  patience: number;
  /** An evaluation improves only if its loss is lower than the best by more than this. Default 0. */
  minDelta?: number;
}

/** The best evaluation loss so far and how long ago it was. */
export class BestLoss {
  best: number = Infinity;
  evaluationsSince = 0;
  readonly #minDelta: number;
  readonly #patience: number;

  constructor(options: EarlyStoppingOptions = { patience: Infinity }) {
    this.#patience = options.patience;
    this.#minDelta = options.minDelta ?? 0;
  }

  /** Takes an evaluation and says whether it improves. */
  update(loss: number): boolean {
    const improved = this.best === Infinity || loss < this.best - this.#minDelta;
    if (improved) this.best = loss;
    this.evaluationsSince = improved ? 0 : this.evaluationsSince + 1;
    return improved;
  }

  get exhausted(): boolean {
    return this.evaluationsSince >= this.#patience;
  }
}
