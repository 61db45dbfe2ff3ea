import { Input, NoToken } from './seam.js';
import type { Values } from './values.js';
import type { AuthEndpoint, AuthRequest, AuthResult, ClientOptions } from './types.js';

type Tell = (input: Input, ...numbers: number[]) => void;

/** A channel token; or the HTTP status that came in its place, or none and when to ask again. */
interface Answer {
  readonly auth?: unknown;
  readonly channel_data?: unknown;
  readonly status?: number;
  readonly wait?: number;
}

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
    let answer: Answer;
    try {
      if (typeof auth === 'function') {
        answer = granted(await auth({ channel, socketId, reason, signal }));
      } else {
        answer = await this.#fetch(auth ?? {}, { channel, socket_id: socketId }, signal);
      }
    } catch (error) {
      answer = { status: isUnauthorized(error) ? ((error as { status?: number }).status ?? FORBIDDEN) : 0 };
    }
    if (!signal.aborted) {
      this.#open.delete(channel);
      const { auth: text, channel_data, status = 0, wait = -1 } = answer;
      this.#tell(Input.ChannelAuth, this.#values.put(channel), this.#text(text), this.#text(channel_data), status, wait);
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

  async #fetch({ endpoint, headers, credentials = 'include' }: AuthEndpoint, body: object, signal: AbortSignal): Promise<Answer> {
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
      return { wait };
    }
    return { status };
  }

  /** The number of what is text. */
  #text(value: unknown): number {
    return typeof value === 'string' ? this.#values.put(value) : 0;
  }
}

function granted({ auth, channel_data }: AuthResult): Answer {
  return { auth, channel_data };
}

function isUnauthorized(error: unknown): boolean {
  return (error as Error | null)?.name === 'UnauthorizedError';
}

/** What an `UnauthorizedError` without a status of its own stands for. */
const FORBIDDEN = 403;
