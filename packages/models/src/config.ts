import { type AshlarError, ConfigError, FormatError, quote } from '@ashlar/tensor';

/** Reads the fields of a `config.json`, which may come from a stranger. */
export class ConfigReader {
  /** All fields as they came. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly #source: string | undefined;

  /**
   * @param source the file, named in errors, which are then FormatErrors; without one they are ConfigErrors.
   * @throws FormatError or ConfigError if `json` is no object.
   */
  constructor(json: unknown, source?: string) {
    this.#source = source;
    if (typeof json !== 'object' || json === null || Array.isArray(json)) throw this.error('the config is no object.');
    this.fields = json as Record<string, unknown>;
  }

  /** A field that is neither absent nor null. */
  raw(name: string): unknown {
    return Object.hasOwn(this.fields, name) ? (this.fields[name] ?? undefined) : undefined;
  }

  /** A positive integer of at most `max`. */
  size(name: string, fallback?: number, max: number = 2 ** 24): number {
    return this.#number(
      name,
      fallback,
      `an integer from 1 to ${max}`,
      (n) => Number.isInteger(n) && n >= 1 && n <= max,
    );
  }

  positive(name: string, fallback?: number): number {
    return this.#number(name, fallback, 'a positive number', (n) => Number.isFinite(n) && n > 0);
  }

  probability(name: string, fallback: number): number {
    return this.#number(name, fallback, 'in [0, 1)', (n) => n >= 0 && n < 1);
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'boolean') throw this.refuse(name, value, 'true or false');
    return value;
  }

  choice(name: string, fallback: string, allowed: readonly string[]): string {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'string' || !allowed.includes(value)) {
      throw this.refuse(name, value, `one of ${allowed.join(', ')}`);
    }
    return value;
  }

  /** A token id, a list of them, or nothing. */
  tokens(name: string): number | number[] | undefined {
    const value = this.raw(name);
    const isToken = (id: unknown): boolean => Number.isSafeInteger(id);
    if (value === undefined || isToken(value)) return value as number | undefined;
    if (Array.isArray(value) && value.every(isToken)) return value;
    throw this.refuse(name, value, 'an integer, a list of integers or null');
  }

  /** An object as it came; nothing for one without fields. */
  record(name: string): Readonly<Record<string, unknown>> | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.refuse(name, value, 'an object or null');
    return Object.keys(value as object).length > 0 ? (value as Record<string, unknown>) : undefined;
  }

  refuse(name: string, value: unknown, may: string): AshlarError {
    return this.error(`${name} is ${quote(value)}; it must be ${may}.`);
  }

  error(problem: string): AshlarError {
    return this.#source === undefined ? new ConfigError(problem) : new FormatError(`${this.#source}: ${problem}`);
  }

  #number(name: string, fallback: number | undefined, may: string, ok: (n: number) => boolean): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'number' || !ok(value)) throw this.refuse(name, value, may);
    return value;
  }
}
