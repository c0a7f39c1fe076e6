import type { BenchCase, Contestant } from './define-bench.ts';

export interface Timing {
  contestant: string;
  /** Milliseconds of one run: the median of the rounds, the fastest and the slowest. */
  median: number;
  min: number;
  max: number;
  /** How many samples: one for a contestant that is too slow for more. */
  samples: number;
  /** GFLOP/s at the median, if the case says how many operations it takes. */
  rate?: number;
  notes?: Record<string, string | number>;
}

/** A contestant that could not take part, and why. */
export interface Absence {
  contestant: string;
  absent: string;
}

/** A run that takes longer, in milliseconds, is measured once. */
const TOO_SLOW = 30_000;
/** A first run that takes longer is all there is to see, whatever it compiles. */
const MUCH_TOO_SLOW = 150_000;

export interface MeasureOptions {
  /** Samples per contestant, at least 5. */
  rounds: number;
  /** A sample repeats the run until it lasts this long, in milliseconds, so that the clock's grain does not count. */
  sampleTime: number;
}

/**
 * Times a case's contestants in turns (a, b, c, b, c, a, …), so that whatever else the machine does meanwhile falls on
 * all of them. One that fails in its first run is reported as absent.
 */
export async function measureCase(
  { contestants, flops }: BenchCase,
  { rounds, sampleTime }: MeasureOptions,
): Promise<(Timing | Absence)[]> {
  if (rounds < 5) throw new Error(`rounds must be at least 5, but is ${rounds}`);
  const entries: [string, Contestant][] = [];
  const repeats = new Map<string, number>();
  const samples = new Map<string, number[]>();
  const absences = new Map<string, string>();
  for (const [name, contestant] of Object.entries(contestants)) {
    try {
      // The first run compiles and caches; the second tells how many runs make a sample.
      const first = await sample(contestant, 1);
      const once = first > MUCH_TOO_SLOW ? first : await sample(contestant, 1);
      repeats.set(name, Math.max(1, Math.ceil(sampleTime / Math.max(once, 1e-4))));
      samples.set(name, once > TOO_SLOW ? [once] : []);
      if (once <= TOO_SLOW) entries.push([name, contestant]);
    } catch (error) {
      absences.set(name, error instanceof Error ? error.message : String(error));
    }
  }

  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < entries.length; i++) {
      const [name, contestant] = entries[(round + i) % entries.length];
      samples.get(name)?.push(await sample(contestant, repeats.get(name) ?? 1));
    }
  }

  return Object.entries(contestants).map(([contestant, { notes }]) => {
    const absent = absences.get(contestant);
    if (absent !== undefined) return { contestant, absent };
    const sorted = samples.get(contestant)!.toSorted((a, b) => a - b);
    const median = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
    return {
      contestant,
      median,
      min: sorted[0],
      max: sorted[sorted.length - 1],
      samples: sorted.length,
      ...(flops !== undefined && { rate: flops / median / 1e6 }),
      ...(notes && { notes: notes() }),
    };
  });
}

/** Milliseconds per run over `repeats` runs. */
async function sample({ prepare, run }: Contestant, repeats: number): Promise<number> {
  await prepare?.();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) {
    const result = run();
    // Awaiting what is not a promise would add a turn of the event loop to every run.
    if (result instanceof Promise) await result;
  }
  return (performance.now() - start) / repeats;
}
