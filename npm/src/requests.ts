import type { Driver } from './driver.js';
import { aborted, badArgument, RealtimeError } from './errors.js';
import { whenAborted } from './listeners.js';
import { Input, type Reply } from './seam.js';

export type Send = (driver: Driver, number: number) => void;

interface Request {
  /** Hands it to the machine under a number. Can be done again with another machine. */
  readonly send: Send;
  settle(error: RealtimeError | null, reply?: Reply): void;
  number: number | null;
}

/** The commands that wait for an answer, whichever machine will get it. */
export class Requests {
  readonly #limit: number;
  readonly #pending = new Set<Request>();
  readonly #sent = new Map<number, Request>();
  #driver: Driver | null = null;

  /** At most so many wait while there is no machine; then it counts by itself. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  ask(send: Send, signal: AbortSignal | undefined): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted(signal));
        return;
      }
      if (this.#driver === null && this.#pending.size >= this.#limit) {
        reject(new RealtimeError('queue-full', 'too many requests are waiting', { retryable: true }));
        return;
      }
      const detach = whenAborted(signal, () => this.#abort(request, signal as AbortSignal));
      const request: Request = {
        send,
        settle: (error, reply = {}) => {
          detach();
          this.#pending.delete(request);
          if (error === null) {
            resolve(reply);
          } else {
            reject(error);
          }
        },
        number: null,
      };
      this.#pending.add(request);
      this.#send(request);
    });
  }

  /** A machine that knows nothing of what waits, or none. */
  use(driver: Driver | null): void {
    this.#driver = driver;
    this.#sent.clear();
    for (const request of [...this.#pending]) {
      request.number = null;
      this.#send(request);
    }
  }

  done(number: number, error: RealtimeError | null, reply: Reply): void {
    const request = this.#sent.get(number);
    this.#sent.delete(number);
    request?.settle(error, reply);
  }

  /** Ends everything that waits. */
  fail(error: RealtimeError): void {
    this.#sent.clear();
    for (const request of [...this.#pending]) {
      request.settle(error);
    }
  }

  #send(request: Request): void {
    const driver = this.#driver;
    if (driver === null) {
      return;
    }
    const number = driver.nextRequest();
    request.number = number;
    this.#sent.set(number, request);
    try {
      request.send(driver, number);
    } catch (thrown) {
      this.#sent.delete(number);
      request.settle(badArgument(thrown));
    }
  }

  #abort(request: Request, signal: AbortSignal): void {
    if (request.number !== null) {
      this.#sent.delete(request.number);
      this.#driver?.tell(Input.Abort, request.number);
    }
    request.settle(aborted(signal));
  }
}
