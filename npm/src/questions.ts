import { type Answer, askEndpoint, granted } from './endpoint.js';
import { type Failure, failure } from './errors.js';
import { Input, NoToken } from './seam.js';
import type { AuthRequest, ClientOptions } from './types.js';
import type { Values } from './values.js';

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
    let failed: Failure | undefined;
    try {
      given = (typeof token === 'function' && (await token({ reason }))) || undefined;
      if (given !== undefined && typeof given !== 'string') {
        throw new TypeError(`it gave ${typeof given} in place of text`);
      }
    } catch (error) {
      given = undefined;
      why = isUnauthorized(error) ? NoToken.Unauthorized : NoToken.Failed;
      failed = failure(why === NoToken.Unauthorized ? '' : '`token` failed', error);
    }
    if (question === this.#tokens) {
      this.#tell(Input.Token, this.#values.put(given), why, this.#values.put(failed));
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
      answer =
        typeof auth === 'function'
          ? (granted(await auth({ channel, socketId, reason, signal })) ?? { why: { text: '`auth` gave no {auth}' } })
          : await askEndpoint(auth ?? {}, this.#url.replace(/^ws/, 'http'), { channel, socket_id: socketId }, signal);
    } catch (error) {
      answer = isUnauthorized(error)
        ? { isFinal: true, status: (error as { status?: number }).status ?? FORBIDDEN, why: failure('', error) }
        : { why: failure(typeof auth === 'function' ? '`auth` failed' : '`auth.headers` failed', error) };
    }
    if (!signal.aborted) {
      this.#open.delete(channel);
      const put = (value: unknown) => this.#values.put(value);
      const { auth: text, channel_data, isFinal = false, status = -1, wait = -1, why } = answer;
      this.#tell(Input.ChannelAuth, put(channel), put(text), put(channel_data), +isFinal, status, wait, put(why));
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
}

function isUnauthorized(error: unknown): boolean {
  return (error as Error | null)?.name === 'UnauthorizedError';
}

/** What an `UnauthorizedError` without a status of its own stands for. */
const FORBIDDEN = 403;
