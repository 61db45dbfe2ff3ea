import { Input, NoToken } from './seam.js';
import type { AuthEndpoint, AuthRequest, AuthResult, ClientOptions } from './types.js';

type Tell = (...input: unknown[]) => void;

/** What only the application, or its backend, can answer. The machine keeps the deadlines. */
export class Questions {
  readonly #options: ClientOptions;
  readonly #url: string;
  readonly #tell: Tell;
  /** At most one per channel. */
  readonly #open = new Map<string, AbortController>();
  #tokens = 0;

  /** `url` is the socket's. */
  constructor(options: ClientOptions, url: string, tell: Tell) {
    this.#options = options;
    this.#url = url;
    this.#tell = tell;
  }

  async askForToken(reason: 'connect' | 'expiring' | 'rejected'): Promise<void> {
    this.#tokens += 1;
    const question = this.#tokens;
    const { token } = this.#options;
    let answer: [NoToken, unknown?];
    try {
      answer = [NoToken.Anonymous, (typeof token === 'function' && (await token({ reason }))) || null];
      if (typeof answer[1] !== 'string' && answer[1] !== null) {
        answer = [NoToken.Failed];
      }
    } catch (error) {
      answer = [isUnauthorized(error) ? NoToken.Unauthorized : NoToken.Failed];
    }
    if (question === this.#tokens) {
      this.#tell(Input.Token, ...answer);
    }
  }

  async authorize(channel: string, socketId: string, reason: AuthRequest['reason']): Promise<void> {
    this.cancel(channel);
    const { auth } = this.#options;
    const controller = new AbortController();
    const { signal } = controller;
    this.#open.set(channel, controller);
    let answer: unknown[];
    try {
      if (typeof auth === 'function') {
        answer = granted(await auth({ channel, socketId, reason, signal }));
      } else {
        answer = await this.#fetch(auth ?? {}, { channel, socket_id: socketId }, signal);
      }
    } catch (error) {
      answer = [null, null, isUnauthorized(error) ? ((error as { status?: number }).status ?? FORBIDDEN) : 0];
    }
    if (!signal.aborted) {
      this.#open.delete(channel);
      this.#tell(Input.ChannelAuth, channel, ...answer);
    }
  }

  /** The answer for this channel is no longer wanted. */
  cancel(channel: string): void {
    this.#open.get(channel)?.abort();
    this.#open.delete(channel);
  }

  /** Nobody waits for an answer any more. */
  close(): void {
    this.#tokens += 1;
    for (const channel of [...this.#open.keys()]) {
      this.cancel(channel);
    }
  }

  async #fetch({ endpoint, headers, credentials = 'include' }: AuthEndpoint, body: object, signal: AbortSignal): Promise<unknown[]> {
    const all = new Headers(typeof headers === 'function' ? await headers() : headers);
    all.set('content-type', 'application/json');
    // The socket's own address, over HTTP: what the endpoint is relative to where there is no page, and what it is beside of.
    const base = this.#url.replace(/^ws/, 'http');
    const beside = `${base.replace(/\/*([?#].*)?$/, '')}/auth`;
    const url = endpoint ? (globalThis.location ? endpoint : new URL(endpoint, base)) : beside;
    const response = await fetch(url, { method: 'POST', headers: all, credentials, signal, body: JSON.stringify(body) });
    const { status, ok } = response;
    if (ok) {
      return granted(await response.json());
    }
    // Requests that came too early, too often or too slowly, and a server in trouble.
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      // Seconds or a date: RFC 9110, section 10.2.3.
      const after = response.headers.get('retry-after') ?? '';
      const wait = /^\d+$/.test(after) ? +after * 1000 : Date.parse(after) - Date.now();
      return [null, null, 0, wait >= 0 ? wait : null];
    }
    return [null, null, status];
  }
}

function granted({ auth, channel_data }: AuthResult): unknown[] {
  return [auth, channel_data, 0];
}

function isUnauthorized(error: unknown): boolean {
  return (error as Error | null)?.name === 'UnauthorizedError';
}

/** What an `UnauthorizedError` without a status of its own stands for. */
const FORBIDDEN = 403;
