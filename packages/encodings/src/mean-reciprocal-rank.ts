import { ConfigError, checkOptions } from '@ashlar/tensor';

/**
 * A score for methods compared in several settings: in each, the best has rank 1, and equal ones keep their order; the
 * score of a method is the mean of `1 / rank`. It is 1 for what is always best.
 *
 * Source: Kazemnejad et al. 2023, arXiv 2305.19466, for encodings by accuracy beyond the trained length.
 * @param table for each setting the score of every method, higher being better.
 * @throws ConfigError for an empty table, settings with different methods, or a score that is no number.
 */
export function meanReciprocalRank(table: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  if (!Array.isArray(table) || table.length === 0)
    throw new ConfigError('meanReciprocalRank: the table is empty; give at least one setting.');
  const methods = Object.keys(checkOptions('meanReciprocalRank: setting 0', table[0]));
  const totals = new Map(methods.map((method) => [method, 0]));
  for (const [i, scores] of table.entries()) {
    checkOptions(`meanReciprocalRank: setting ${i}`, scores);
    const bad = methods.find((method) => !Number.isFinite(scores[method]));
    if (bad !== undefined || Object.keys(scores).length !== methods.length) {
      throw new ConfigError(
        `meanReciprocalRank: setting ${i} must have a number for each of ${methods.join(', ')} and for nothing else.`,
      );
    }
    const ranked = methods.toSorted((a, b) => scores[b] - scores[a]);
    for (const [rank, method] of ranked.entries()) totals.set(method, (totals.get(method) ?? 0) + 1 / (rank + 1));
  }
  return Object.fromEntries(methods.map((method) => [method, (totals.get(method) ?? 0) / table.length]));
}
