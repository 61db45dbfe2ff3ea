import type { Unsubscribe } from './types.js';

export type Handler = (...values: any[]) => unknown;

interface Entry {
  /** `null` once it is removed, also for a round that is under way. */
  handler: Handler | null;
}

/** Handlers by key. One that throws is reported and disturbs no other. */
export class Listeners<Key> {
  readonly #entries = new Map<Key, readonly Entry[]>();

  /** Adds a handler and returns what removes it; the same function may be added twice. */
  add(key: Key, handler: Handler): () => void {
    const entry: Entry = { handler };
    this.#entries.set(key, [...(this.#entries.get(key) ?? []), entry]);
    return () => {
      entry.handler = null;
      const left = this.#entries.get(key)?.filter((other) => other !== entry) ?? [];
      if (left.length > 0) {
        this.#entries.set(key, left);
      } else {
        this.#entries.delete(key);
      }
    };
  }

  has(key: Key): boolean {
    return this.#entries.has(key);
  }

  /** Calls the handlers that were there when the round began and still are. */
  emit(key: Key, ...values: unknown[]): void {
    for (const entry of this.#entries.get(key) ?? []) {
      try {
        entry.handler?.(...values);
      } catch (error) {
        report(error);
      }
    }
  }

  /** {@link emit} for the path that every message takes: two values and no array of them. */
  dispatch(key: Key, data: unknown, meta: unknown): void {
    const entries = this.#entries.get(key);
    if (entries === undefined) {
      return;
    }
    for (const entry of entries) {
      try {
        entry.handler?.(data, meta);
      } catch (error) {
        report(error);
      }
    }
  }

  clear(): void {
    for (const entries of this.#entries.values()) {
      for (const entry of entries) {
        entry.handler = null;
      }
    }
    this.#entries.clear();
  }
}

/** Reports an error as uncaught, without stopping what is under way. */
export function report(error: unknown): void {
  if (typeof globalThis.reportError === 'function') {
    globalThis.reportError(error);
  } else {
    setTimeout(() => {
      throw error;
    });
  }
}

/** Calls `act` when the signal fires; returns what takes that back. */
export function whenAborted(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal === undefined) {
    return () => {};
  }
  signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

/** Makes a function that ends something once, also by a signal and by `using`. */
export function unsubscriber(end: () => void, signal?: AbortSignal): Unsubscribe {
  let isOver = false;
  const unsubscribe = () => {
    if (!isOver) {
      isOver = true;
      detach();
      end();
    }
  };
  const detach = whenAborted(signal, unsubscribe);
  return Object.assign(unsubscribe, { [Symbol.dispose]: unsubscribe });
}

/** An unsubscribe function for what never began. */
export function nothingToEnd(): Unsubscribe {
  return unsubscriber(() => {});
}
