import { Input, NoToken } from './seam.js';
import type { Values } from './values.js';
import type { AuthEndpoint, AuthRequest, AuthResult, ClientOptions } from './types.js';

type Tell = (input: Input, ...numbers: number[]) => void;

/** What only the application, or its backend, can answer. The machine keeps the deadlines. */
export class Questions {
  readonly #options: ClientOptions;
  readonly #url: string;
  readonly #values: Values;
  readonly #tell: Tell;
  /** At most one per channel. */
  readonly #open = new Map<string, AbortController>();
  #tokens = 0;

  /** `url` is the socket's. */
  constructor(options: ClientOptions, url: string, values: Values, tell: Tell) {
    this.#options = options;
    this.#url = url;
    this.#values = values;
    this.#tell = tell;
  }

  async askForToken(reason: 'connect' | 'expiring' | 'rejected'): Promise<void> {
    this.#tokens += 1;
    const question = this.#tokens;
    const { token } = this.#options;
    let given: unknown;
    let why = NoToken.Anonymous;
    try {
      given = (typeof token === 'function' && (await token({ reason }))) || undefined;
      why = given === undefined ? why : NoToken.Failed;
    } catch (error) {
      why = isUnauthorized(error) ? NoToken.Unauthorized : NoToken.Failed;
    }
    if (question === this.#tokens) {
      this.#tell(Input.Token, this.#text(given), why);
    }
  }

  async authorize(channel: string, socketId: string, reason: AuthRequest['reason']): Promise<void> {
    this.cancel(channel);
    const { auth } = this.#options;
    const controller = new AbortController();
    const { signal } = controller;
    this.#open.set(channel, controller);
    let answer: number[];
    try {
      if (typeof auth === 'function') {
        answer = this.#granted(await auth({ channel, socketId, reason, signal }));
      } else {
        answer = await this.#fetch(auth ?? {}, { channel, socket_id: socketId }, signal);
      }
    } catch (error) {
      answer = refused(isUnauthorized(error) ? ((error as { status?: number }).status ?? FORBIDDEN) : 0);
    }
    if (!signal.aborted) {
      this.#open.delete(channel);
      this.#tell(Input.ChannelAuth, this.#values.put(channel), ...answer);
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

  async #fetch({ endpoint, headers, credentials = 'include' }: AuthEndpoint, body: object, signal: AbortSignal): Promise<number[]> {
    const all = new Headers(typeof headers === 'function' ? await headers() : headers);
    all.set('content-type', 'application/json');
    // The socket's own address, over HTTP: what the endpoint is relative to where there is no page, and what it is beside of.
    const base = this.#url.replace(/^ws/, 'http');
    const beside = `${base.replace(/\/*([?#].*)?$/, '')}/auth`;
    const url = endpoint ? (globalThis.location ? endpoint : new URL(endpoint, base)) : beside;
    const response = await fetch(url, { method: 'POST', headers: all, credentials, signal, body: JSON.stringify(body) });
    const { status, ok } = response;
    if (ok) {
      return this.#granted(await response.json());
    }
    // Requests that came too early, too often or too slowly, and a server in trouble.
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      // Seconds or a date: RFC 9110, section 10.2.3.
      const after = response.headers.get('retry-after') ?? '';
      const wait = /^\d+$/.test(after) ? +after * 1000 : Date.parse(after) - Date.now();
      return refused(0, wait);
    }
    return refused(status);
  }

  #granted({ auth, channel_data }: AuthResult): number[] {
    return [this.#text(auth), this.#text(channel_data), 0];
  }

  /** The number of what is text. */
  #text(value: unknown): number {
    return typeof value === 'string' ? this.#values.put(value) : 0;
  }
}

/** With an HTTP status; or 0, and when to ask again. */
function refused(status: number, wait = -1): number[] {
  return [0, 0, status, wait];
}

function isUnauthorized(error: unknown): boolean {
  return (error as Error | null)?.name === 'UnauthorizedError';
}

/** What an `UnauthorizedError` without a status of its own stands for. */
const FORBIDDEN = 403;
