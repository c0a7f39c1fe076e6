/** Memory of the process in bytes. */
export interface MemoryUsage {
  /** Resident now. */
  readonly residentBytes: number;
  /** The most that was ever resident. */
  readonly peakBytes: number;
}

/** Memory of this process as the system counts it (so native memory too); undefined outside Node. */
export function memoryUsage(): MemoryUsage | undefined {
  if (typeof globalThis.process?.resourceUsage !== 'function') return undefined;
  // Node gives the peak in kibibytes, on every system.
  return { residentBytes: process.memoryUsage.rss(), peakBytes: process.resourceUsage().maxRSS * 1024 };
}
