/** A timer that may be longer than `setTimeout` takes: above 2^31 - 1 milliseconds, and for `Infinity`, that one fires at once. */
export function startTimer(act: () => void, milliseconds: number): ReturnType<typeof setTimeout> {
  return setTimeout(act, Math.min(milliseconds, MILLISECONDS_MAX));
}

/** 24.8 days. */
const MILLISECONDS_MAX = 2 ** 31 - 1;
