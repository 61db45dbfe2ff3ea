/** The entries by which JavaScript gets into the module; everything else is called from inside of them. */
const ENTRY = /^machine_/;

/** Stands for what an entry would have returned: no output, no message that was followed, no time. */
const NOTHING = NaN;

type Entry = (...values: unknown[]) => unknown;

/**
 * The exports of an instance, such that whatever escapes from it ends it: after a trap its memory cannot be trusted, so
 * `trapped` is called once and nothing gets in any more. What a method means to throw does not come this way.
 */
export function guard(exports: WebAssembly.Exports, trapped: (cause: unknown) => void): WebAssembly.Exports {
  let isDead = false;
  const guarded: WebAssembly.Exports = {};
  for (const [name, value] of Object.entries(exports)) {
    guarded[name] = value;
    if (!ENTRY.test(name)) {
      continue;
    }
    const enter = value as Entry;
    // As many as any of them takes: this is on the way of every message, and a list of them would cost more than the call.
    guarded[name] = (a: unknown, b: unknown, c: unknown, d: unknown, e: unknown, f: unknown): unknown => {
      if (isDead) {
        return NOTHING;
      }
      try {
        return enter(a, b, c, d, e, f);
      } catch (cause) {
        if (!isDead) {
          isDead = true;
          trapped(cause);
        }
        return NOTHING;
      }
    };
  }
  return guarded;
}
