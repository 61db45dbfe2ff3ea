import type { Driver } from './driver.js';
import { aborted, RealtimeError, unknownOutcome } from './errors.js';
import { whenAborted } from './listeners.js';
import type { Position } from './seam.js';
import { Input } from './table.js';

/** A command that wants an answer. */
export interface Question {
  readonly type: string;
  /** It waits until this channel is subscribed, if it is wanted at all. */
  readonly channel?: string | undefined;
  /** The fields of its frame behind `id`. */
  readonly body: string;
  /** The server recognises it by its key when it comes again. */
  readonly isRepeatable: boolean;
  /** It shows this info, as JSON text; null takes it back. */
  readonly info?: string | null | undefined;
}

/** A reply, as the server sends it. */
export interface Reply {
  event_id?: string | null;
  position?: Position | null;
  count?: number | null;
  members?: { id: string; info: unknown }[] | null;
  events?:
    | {
        event: string;
        data: unknown;
        offset?: number | null;
        epoch?: string | null;
        tag?: string | null;
        user_id?: string | null;
        event_id?: string | null;
      }[]
    | null;
}

interface Request {
  readonly question: Question;
  settle(error: RealtimeError | null, reply?: Reply): void;
  number: number | null;
  /** The user it was sent for; null when there was none, undefined when it was not sent. */
  sentFor: string | null | undefined;
}

/** The commands that wait for an answer, whichever machine will get it. */
export class Requests {
  readonly #limit: number;
  readonly #pending = new Set<Request>();
  readonly #sent = new Map<number, Request>();
  #driver: Driver | null = null;
  /** Counts what was handed to machines. */
  #last = 0;

  /** At most so many wait while there is no machine; then it counts by itself. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  ask(question: Question, signal: AbortSignal | undefined): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted(signal));
        return;
      }
      if (this.#driver === null && this.#pending.size >= this.#limit) {
        reject(new RealtimeError('queue-full', 'too many requests are waiting', { retryable: true, channel: question.channel }));
        return;
      }
      const detach = whenAborted(signal, () => this.#abort(request, signal as AbortSignal));
      const request: Request = {
        question,
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
        sentFor: undefined,
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
      // What comes of one may end another.
      if (this.#pending.has(request)) {
        request.number = null;
        if (driver !== null && request.sentFor === null && request.question.isRepeatable) {
          // Without a user, another connection's repetition would not be recognised.
          request.settle(unknownOutcome());
        } else {
          this.#send(request);
        }
      }
    }
  }

  /** What was asked under this number, and is sent for this user now; nothing when no caller waits any more. */
  sending(number: number, user: string | null): Question | undefined {
    const request = this.#sent.get(number);
    if (request !== undefined) {
      request.sentFor = user;
    }
    return request?.question;
  }

  /** What was asked under this number; nothing when no caller waits any more. */
  asked(number: number): Question | undefined {
    return this.#sent.get(number)?.question;
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
      const mayHaveHappened = request.sentFor !== undefined && request.question.isRepeatable;
      request.settle(mayHaveHappened ? unknownOutcome({ cause: error }) : error);
    }
  }

  #send(request: Request): void {
    const driver = this.#driver;
    if (driver === null) {
      return;
    }
    this.#last += 1;
    request.number = this.#last;
    this.#sent.set(this.#last, request);
    driver.ask(this.#last, request.question, request.sentFor);
  }

  #abort(request: Request, signal: AbortSignal): void {
    if (request.number !== null) {
      this.#sent.delete(request.number);
      this.#driver?.tell(Input.Abort, request.number);
    }
    request.settle(aborted(signal));
  }
}
