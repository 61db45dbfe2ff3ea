import type { ErrorItems } from './seam.js';

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
  | 'rate-limited'
  | 'payload-too-large'
  | 'queue-full'
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
  constructor(message = 'the credentials were refused', details: ErrorDetails = {}) {
    super('unauthorized', message, details);
    this.name = 'UnauthorizedError';
  }
}

/** An error as the machine tells it, where it tells one. `rejected` is what a refusal is called there. */
export function fromMachine(items: ErrorItems, rejected: ErrorCode = 'rejected', channel?: string): RealtimeError | null {
  const [code, message = '', retryable, serverCode, status, retryAfter] = items;
  if (code === undefined) {
    return null;
  }
  return new RealtimeError(code === 'rejected' ? rejected : (code as ErrorCode), message, {
    retryable,
    serverCode: serverCode ?? undefined,
    status: status ?? undefined,
    retryAfter: retryAfter ?? undefined,
    channel,
  });
}

/** What a promise is rejected with whose signal fired. */
export function aborted(signal: AbortSignal): RealtimeError {
  return new RealtimeError('aborted', 'the operation was aborted', { cause: signal.reason });
}

/** What every operation of a closed client ends with. */
export function closed(): RealtimeError {
  return new RealtimeError('closed', 'the client is closed');
}

/** What the machine throws for a name that is none, or an option that it cannot read. */
export function badArgument(thrown: unknown, channel?: string): RealtimeError {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new RealtimeError('bad-argument', message, { cause: thrown, channel });
}
