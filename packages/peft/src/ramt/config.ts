import { checkTargets, refuse } from '../check-options.ts';
import type { TargetOptions } from '../match.ts';

export interface RamtConfig extends Omit<TargetOptions, 'modulesToSave'> {
  /** Weights whose mask variable is above it are on. Default 5e-3. */
  tau?: number;
  /** What the mask variables start from; above `tau`, so that all weights are on. Default 1e-2. */
  init?: number;
}

const DEFAULTS = { tau: 5e-3, init: 1e-2 } as const;

export type CheckedRamtConfig = RamtConfig & Required<Pick<RamtConfig, keyof typeof DEFAULTS>>;

/** Fills in the defaults and checks every option. @throws ConfigError naming it, what it was and what it may be. */
export function checkRamtConfig(config: RamtConfig): CheckedRamtConfig {
  const given = Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
  const full = { ...DEFAULTS, ...given } as CheckedRamtConfig;
  if (!Number.isFinite(full.tau)) refuse('tau', full.tau, 'a finite number');
  if (!(Number.isFinite(full.init) && Math.fround(full.init) > Math.fround(full.tau))) {
    refuse('init', full.init, `a finite number above tau, ${full.tau}: else every weight starts switched off`);
  }
  checkTargets(full);
  return full;
}
