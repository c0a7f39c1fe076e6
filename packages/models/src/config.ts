import { FormatError } from '@ashlar/tensor';

/** Reads the fields of a `config.json` from a stranger, naming the file and the field in every error. */
export class ConfigReader {
  readonly source: string;
  readonly #json: Readonly<Record<string, unknown>>;

  /** @throws FormatError if `json` is no object. */
  constructor(json: unknown, source: string = 'config.json') {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new FormatError(`${source} holds no object.`);
    }
    this.source = source;
    this.#json = json as Record<string, unknown>;
  }

  /** A field that is neither absent nor null. */
  raw(name: string): unknown {
    return Object.hasOwn(this.#json, name) ? (this.#json[name] ?? undefined) : undefined;
  }

  /** A positive integer of at most `max`. */
  size(name: string, fallback?: number, max = 2 ** 24): number {
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
    if (typeof value !== 'boolean') throw this.#refuse(name, value, 'true or false');
    return value;
  }

  choice(name: string, fallback: string, allowed: readonly string[]): string {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'string' || !allowed.includes(value)) {
      throw this.#refuse(name, value, `one of ${allowed.join(', ')}`);
    }
    return value;
  }

  #number(name: string, fallback: number | undefined, may: string, ok: (n: number) => boolean): number {
    const value = this.raw(name) ?? fallback;
    if (typeof value !== 'number' || !ok(value)) throw this.#refuse(name, value, may);
    return value;
  }

  #refuse(name: string, value: unknown, may: string): FormatError {
    return new FormatError(`${this.source}: ${name} is ${JSON.stringify(value)}; it must be ${may}.`);
  }
}
