import type { LoadedGraph } from './runtime.ts';

/**
 * Keeps loaded graphs for the next call of the same kind, at most `limit` of them: the one unused for longest makes
 * room. A program whose attributes keep changing would otherwise collect graphs without end, at 80 KB each.
 */
export class SessionCache {
  /** Least recently used first. */
  readonly #sessions = new Map<string, LoadedGraph>();

  constructor(readonly limit: number) {}

  get size(): number {
    return this.#sessions.size;
  }

  /** The session of `key`, from `load` if it is not here. It belongs to the cache, until the next call of `get`. */
  get(key: string, load: () => LoadedGraph): LoadedGraph {
    let session = this.#sessions.get(key);
    if (session) this.#sessions.delete(key);
    else {
      session = load();
      if (this.#sessions.size >= this.limit) this.#disposeOldest();
    }
    this.#sessions.set(key, session);
    return session;
  }

  clear(): void {
    while (this.#sessions.size > 0) this.#disposeOldest();
  }

  #disposeOldest(): void {
    const [key, session] = this.#sessions.entries().next().value!;
    this.#sessions.delete(key);
    session.dispose();
  }
}
