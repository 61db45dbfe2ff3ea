import type { Signal } from './globals.js';
import { ERROR_KINDS, ErrorKind } from './table.js';
import type { Values } from './values.js';

/** What went wrong, as a word that programs can compare. */
export type ErrorCode =
  | 'wasm-load'
  | 'wasm-csp'
  | 'no-websocket'
  | 'bad-url'
  | 'bad-argument'
  | 'transport'
  | 'handshake-timeout'
  | 'ping-timeout'
  | 'protocol'
  | 'unauthorized'
  | 'token'
  | 'auth-forbidden'
  | 'auth-http'
  | 'auth-timeout'
  | 'rejected'
  | 'subscribe-rejected'
  | 'publish-rejected'
  | 'unknown-outcome'
  | 'rate-limited'
  | 'payload-too-large'
  | 'queue-full'
  | 'too-many-channels'
  | 'overflow'
  | 'expired'
  | 'ack-timeout'
  | 'timeout'
  | 'closed'
  | 'aborted'
  | 'internal';

/** What is known about an error besides its code and its sentence. */
export interface ErrorDetails {
  /** The number from the server's table of codes, or the WebSocket's close code. */
  serverCode?: number | undefined;
  /** The HTTP status of the auth endpoint. */
  status?: number | undefined;
  /** The channel it is about. */
  channel?: string | undefined;
  /** Whether the same thing may succeed later without a change. */
  retryable?: boolean | undefined;
  /** When to try again, in milliseconds. */
  retryAfter?: number | undefined;
  /** What caused it. */
  cause?: unknown;
}

/** Every error of this package. */
export class RealtimeError extends Error {
  /**
   * What a console shows, also behind a minifier.
   *
   * @internal
   */
  static override readonly name: string = 'RealtimeError';

  readonly code: ErrorCode;
  readonly serverCode: number | undefined;
  readonly status: number | undefined;
  readonly channel: string | undefined;
  readonly retryable: boolean;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.name = 'RealtimeError';
    this.code = code;
    this.serverCode = details.serverCode;
    this.status = details.status;
    this.channel = details.channel;
    this.retryable = details.retryable ?? false;
    this.retryAfter = details.retryAfter;
  }
}

/** Throw it from `token` or `auth` to say that trying again is pointless. */
export class UnauthorizedError extends RealtimeError {
  /** @internal */
  static override readonly name: string = 'UnauthorizedError';

  constructor(message = 'the credentials were refused', details: ErrorDetails = {}) {
    super('unauthorized', message, details);
    this.name = 'UnauthorizedError';
  }
}

/** Why something that the application, or its backend, was asked for did not come: a sentence, and what was thrown. */
export interface Failure {
  readonly text: string;
  readonly cause?: unknown;
}

/** What came of a question to the application. Without `what` the sentence is what was thrown. */
export function failure(what: string, cause: unknown): Failure {
  const said = cause instanceof Error ? cause.message : String(cause);
  return { text: what === '' ? said : `${what}: ${said}`, cause };
}

/** An error as the machine tells it, where it tells one. `rejected` is what a refusal is called there. */
export function fromMachine(
  [kind, ...items]: number[],
  values: Values,
  rejected: ErrorCode = 'rejected',
  channel?: string,
): RealtimeError | null {
  if (kind === undefined) {
    return null;
  }
  const [code, text] = ERROR_KINDS[kind as ErrorKind];
  const [first = -1, words, retry, wait = -1] = items;
  if (kind === ErrorKind.PayloadTooLarge) {
    return new RealtimeError(code, `${text}: a message has at most ${words} bytes, this one has ${first}`, { channel });
  }
  const number = unlessNegative(first);
  const said: string | Failure | undefined = values.at(words);
  if (kind !== ErrorKind.Server) {
    const why = typeof said === 'object' ? said.text : said;
    const isHttp = code === 'auth-http' || code === 'auth-forbidden';
    const message = `${text}${isHttp || number === undefined ? '' : ` (${number})`}${why && why !== text ? `: ${why}` : ''}`;
    const cause = typeof said === 'object' && 'cause' in said ? { cause: said.cause } : {};
    // A connection that a server has closed with 4000 to 4099 ended for good.
    const retryable = kind < ErrorKind.Protocol && !(number! >= 4000 && number! < 4100 && code === 'transport');
    return new RealtimeError(code, message, { retryable, channel, [isHttp ? 'status' : 'serverCode']: number, ...cause });
  }
  const name = RATE_LIMITED.includes(first) ? 'rate-limited' : number === 4306 ? 'payload-too-large' : rejected;
  const details = { serverCode: number, retryable: retry === 1, retryAfter: unlessNegative(wait), channel };
  return new RealtimeError(name, said as string, details);
}

function unlessNegative(number: number): number | undefined {
  return number < 0 ? undefined : number;
}

/** Of a connection's commands, its published bytes, a channel's, and what a user reads. */
const RATE_LIMITED = [4307, 4322, 4323, 4324];

/** What a promise is rejected with whose signal fired. */
export function aborted(signal: Signal): RealtimeError {
  return new RealtimeError('aborted', 'the operation was aborted', { cause: signal.reason });
}

/** What becomes of a command that was sent, that no answer came to, and that cannot be sent again. */
export function unknownOutcome(details: ErrorDetails = {}): RealtimeError {
  return new RealtimeError(...ERROR_KINDS[ErrorKind.UnknownOutcome], details);
}

/** What every operation of a closed client ends with. */
export function closed(): RealtimeError {
  return new RealtimeError('closed', 'the client is closed');
}
