import { ConfigError, closestNames, quote } from '@ashlar/tensor';

/** One step of a computation that is written out. */
export interface ScratchpadStep {
  readonly input: string;
  readonly computation: string;
  readonly output: string;
  /** Absent for tasks without intermediate variables. */
  readonly variables?: string;
  readonly remaining: string;
}

export const SCRATCHPAD_PARTS: readonly ScratchpadPart[] = ['input', 'computation', 'output', 'variables', 'remaining'];

/** A part of each step, see `ScratchpadStep`. */
export type ScratchpadPart = keyof ScratchpadStep;

/** Whether to write the steps, and which parts of them; a part that is not named is written. */
export type Scratchpad = boolean | Readonly<Partial<Record<ScratchpadPart, boolean>>>;

const WRITTEN: Record<ScratchpadPart, (text: string) => string> = {
  input: (text) => `in ${text} `,
  computation: (text) => `comp ${text} `,
  output: (text) => `out ${text} `,
  variables: (text) => `[ ${text} ] `,
  remaining: (text) => `re ${text} `,
};

/**
 * The steps as text, up to and with `Thus,`.
 * @throws ConfigError for an unknown part, or variables of a task that has none.
 */
export function writeScratchpad(steps: readonly ScratchpadStep[], scratchpad: Scratchpad, task: string): string {
  const switches = typeof scratchpad === 'boolean' ? {} : scratchpad;
  for (const name of Object.keys(switches)) {
    if (!SCRATCHPAD_PARTS.some((part) => part === name)) {
      throw new ConfigError(
        `lengthTask: scratchpad has no part ${quote(name)}; closest: ${closestNames(name, SCRATCHPAD_PARTS, 2).join(', ')}`,
      );
    }
  }
  const written = steps.map((step) =>
    SCRATCHPAD_PARTS.filter((part) => switches[part] ?? step[part] !== undefined)
      .map((part) => {
        const text = step[part];
        if (text !== undefined) return WRITTEN[part](text);
        throw new ConfigError(`lengthTask: scratchpad.variables is true, but ${quote(task)} has none; leave it out`);
      })
      .join(''),
  );
  return `Thinking step by step:  ${written.join(' # ')} . Thus,  `;
}
