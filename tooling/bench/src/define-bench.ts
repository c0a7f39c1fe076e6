/** One way to do a case's work. */
export interface Contestant {
  /** Before each sample, not timed: choosing a backend, say. */
  prepare?(): unknown;
  /** The work, timed; disposes what it makes. */
  run(): unknown;
  /** After its last run: more columns of the table, such as the memory it took. */
  notes?(): Record<string, string | number>;
}

/** The same work, done by each contestant. */
export interface BenchCase {
  name: string;
  contestants: Record<string, Contestant>;
  /** Floating-point operations of one run, for a column of GFLOP/s. */
  flops?: number;
  /** After all samples. */
  cleanUp?(): unknown;
}

/**
 * The default export of `packages/<name>/bench/<file>.ts`: one function per case, called in turn, so that a case's
 * tensors exist only while it is measured.
 */
export function defineBench(...cases: (() => BenchCase | Promise<BenchCase>)[]): typeof cases {
  return cases;
}
