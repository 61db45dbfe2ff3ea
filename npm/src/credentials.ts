import { type Answer, askEndpoint, granted } from './endpoint.js';
import { type Failure, failure } from './errors.js';
import { Input, NoToken } from './table.js';
import type { AuthEndpoint, AuthRequest, ClientOptions } from './types.js';
import type { Values } from './values.js';

type Tell = (input: Input, ...numbers: number[]) => void;

/** Gets tokens from the application, and channel tokens from it or its auth endpoint. The machine keeps the deadlines. */
export class CredentialRequests {
  readonly #options: ClientOptions;
  readonly #url: string;
  readonly #values: Values;
  readonly #tell: Tell;
  /** At most one per channel. */
  readonly #open = new Map<string, AbortController>();
  #tokens = 0;
  /** The endpoint is asked for lists: it is the server's own, or said to know them, and has not shown otherwise. */
  #isForLists: boolean;
  /** What will be asked for, in this order. */
  #waiting: AuthRequest[] = [];
  #asking = 0;

  /** `url` is the socket's. */
  constructor(options: ClientOptions, url: string, values: Values, tell: Tell) {
    this.#options = options;
    this.#url = url;
    this.#values = values;
    this.#tell = tell;
    const { endpoint, batch = !endpoint } = (options.auth ?? {}) as AuthEndpoint;
    this.#isForLists = batch;
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

  authorize(channel: string, socketId: string, reason: AuthRequest['reason']): void {
    this.cancel(channel);
    const controller = new AbortController();
    this.#open.set(channel, controller);
    const request = { channel, socketId, reason, signal: controller.signal };
    if (typeof this.#options.auth === 'function') {
      this.#request([request]);
    } else {
      this.#waiting.push(request);
      // Those of the same turn are asked for together.
      queueMicrotask(() => this.#ask());
    }
  }

  /** Asks the endpoint for what waits: for lists where it knows them, and never for all at once. */
  #ask(): void {
    this.#waiting = this.#waiting.filter(({ signal }) => !signal.aborted);
    while (this.#asking < REQUESTS_MAX && this.#waiting.length > 0) {
      this.#asking += 1;
      this.#request(this.#waiting.splice(0, this.#isForLists ? LIST_MAX : 1)).then(() => {
        this.#asking -= 1;
        this.#ask();
      });
    }
  }

  async #request(list: AuthRequest[]): Promise<void> {
    const { auth = {} } = this.#options;
    const [first] = list as [AuthRequest];
    const channels = list.map(({ channel }) => channel);
    const controller = new AbortController();
    for (const { signal } of list) {
      signal.addEventListener('abort', () => list.every(({ signal }) => signal.aborted) && controller.abort());
    }
    let answer: Answer | Answer[] | undefined;
    try {
      answer =
        typeof auth === 'function'
          ? (granted(await auth(first)) ?? { why: { text: '`auth` gave no {auth}' } })
          : await askEndpoint(auth, this.#url.replace(/^ws/, 'http'), channels, first.socketId, controller.signal);
    } catch (error) {
      answer = isUnauthorized(error)
        ? { isFinal: true, status: (error as { status?: number }).status ?? FORBIDDEN, why: failure('', error) }
        : { why: failure(typeof auth === 'function' ? '`auth` failed' : '`auth.headers` failed', error) };
    }
    if (answer === undefined) {
      this.#isForLists = false;
      this.#waiting.unshift(...list);
      return;
    }
    list.forEach(({ channel, signal }, at) => {
      if (!signal.aborted) {
        this.#open.delete(channel);
        const put = (value: unknown) => this.#values.put(value);
        const { auth: text, channel_data, isFinal = false, status = -1, wait = -1, why } = [answer].flat()[at] ?? (answer as Answer);
        this.#tell(Input.ChannelAuth, put(channel), put(text), put(channel_data), +isFinal, status, wait, put(why));
      }
    });
  }

  /** The answer for this channel is no longer wanted. */
  cancel(channel: string): void {
    this.#open.get(channel)?.abort();
    this.#open.delete(channel);
  }

  /** No answer is wanted any more. */
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

/** What the server's own endpoint takes at once. */
const LIST_MAX = 100;

/** 10 at a time: a page with hundreds of channels that comes back is no attack on its backend. */
const REQUESTS_MAX = 10;
