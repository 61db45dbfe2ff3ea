import { aborted, badArgument, fromMachine, RealtimeError } from './errors.js';
import { whenAborted } from './listeners.js';
import type { Machine, MachineError, MachineReply } from './seam.js';

interface Request {
  /** Hands it to the machine and returns its number. Can be done again with another machine. */
  send(machine: Machine): number;
  settle(error: RealtimeError | null, reply?: MachineReply): void;
  number: number | null;
}

/** The commands that wait for an answer, whichever machine will get it. */
export class Requests {
  readonly #limit: number;
  readonly #pending = new Set<Request>();
  readonly #sent = new Map<number, Request>();
  /** Answers that came before the machine had returned the number. */
  readonly #early = new Map<number, [MachineError | undefined, MachineReply | undefined]>();
  #machine: Machine | null = null;
  #sending = 0;

  /** At most so many wait while there is no machine; then it counts by itself. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  ask(send: (machine: Machine) => number, signal: AbortSignal | undefined): Promise<MachineReply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted(signal));
        return;
      }
      if (this.#machine === null && this.#pending.size >= this.#limit) {
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
  use(machine: Machine | null): void {
    this.#machine = machine;
    this.#sent.clear();
    this.#early.clear();
    for (const request of [...this.#pending]) {
      request.number = null;
      this.#send(request);
    }
  }

  done(number: number, error: MachineError | undefined, reply: MachineReply | undefined): void {
    const request = this.#sent.get(number);
    if (request === undefined) {
      if (this.#sending > 0) {
        this.#early.set(number, [error, reply]);
      }
      return;
    }
    this.#sent.delete(number);
    request.settle(error === undefined ? null : fromMachine(error), reply);
  }

  /** Ends everything that waits. */
  fail(error: RealtimeError): void {
    this.#sent.clear();
    for (const request of [...this.#pending]) {
      request.settle(error);
    }
  }

  #send(request: Request): void {
    const machine = this.#machine;
    if (machine === null) {
      return;
    }
    this.#sending += 1;
    try {
      const number = request.send(machine);
      // A machine that trapped meanwhile has been replaced, and the next one has the request.
      if (machine === this.#machine && this.#pending.has(request)) {
        this.#accepted(request, number);
      }
    } catch (thrown) {
      request.settle(badArgument(thrown));
    } finally {
      this.#sending -= 1;
      if (this.#sending === 0) {
        this.#early.clear();
      }
    }
  }

  #accepted(request: Request, number: number): void {
    request.number = number;
    this.#sent.set(number, request);
    const answer = this.#early.get(number);
    if (answer !== undefined) {
      this.done(number, ...answer);
    }
  }

  #abort(request: Request, signal: AbortSignal): void {
    if (request.number !== null) {
      this.#sent.delete(request.number);
      this.#machine?.abort(request.number);
    }
    request.settle(aborted(signal));
  }
}
