import type { BenchCase, Contestant } from './define-bench.ts';

export interface Timing {
  contestant: string;
  /** Milliseconds of one run: the median of the rounds, the fastest and the slowest. */
  median: number;
  min: number;
  max: number;
  /** GFLOP/s at the median, if the case says how many operations it takes. */
  rate?: number;
}

export interface MeasureOptions {
  /** Samples per contestant, at least 5. */
  rounds: number;
  /** A sample repeats the run until it lasts this long, in milliseconds, so that the clock's grain does not count. */
  sampleTime: number;
}

/**
 * Times a case's contestants in turns (a, b, c, b, c, a, …), so that whatever else the machine does meanwhile falls on
 * all of them.
 */
export async function measureCase(
  { contestants, flops }: BenchCase,
  { rounds, sampleTime }: MeasureOptions,
): Promise<Timing[]> {
  if (rounds < 5) throw new Error(`rounds must be at least 5, but is ${rounds}`);
  const entries = Object.entries(contestants);
  const repeats = new Map<string, number>();
  for (const [name, contestant] of entries) {
    // The first run compiles and caches; the second tells how many runs make a sample.
    await sample(contestant, 1);
    repeats.set(name, Math.max(1, Math.ceil(sampleTime / Math.max(await sample(contestant, 1), 1e-4))));
  }

  const samples = new Map(entries.map(([name]): [string, number[]] => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < entries.length; i++) {
      const [name, contestant] = entries[(round + i) % entries.length];
      samples.get(name)?.push(await sample(contestant, repeats.get(name) ?? 1));
    }
  }

  return [...samples].map(([contestant, times]) => {
    const sorted = times.toSorted((a, b) => a - b);
    const median = (sorted[(rounds - 1) >> 1] + sorted[rounds >> 1]) / 2;
    const timing: Timing = { contestant, median, min: sorted[0], max: sorted[rounds - 1] };
    return flops === undefined ? timing : { ...timing, rate: flops / median / 1e6 };
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
