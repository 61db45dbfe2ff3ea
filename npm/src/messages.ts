import { RealtimeError } from './errors.js';
import type { Message, MessagesOptions } from './types.js';

/** The messages that wait for a `for await` loop. */
export class MessageQueue implements AsyncIterableIterator<Message> {
  readonly #limit: number;
  readonly #dropsOldest: boolean;
  readonly #ended: () => void;
  #waiting: Message[] = [];
  #takers: { resolve(result: IteratorResult<Message>): void; reject(error: unknown): void }[] = [];
  #isOver = false;
  #error: RealtimeError | null = null;

  /** `ended` is called once, when nothing more is wanted. */
  constructor(options: MessagesOptions, ended: () => void) {
    this.#limit = Math.max(1, options.buffer ?? BUFFER);
    this.#dropsOldest = options.overflow === 'drop-oldest';
    this.#ended = ended;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  push(message: Message): void {
    if (this.#isOver) {
      return;
    }
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      taker.resolve({ value: message, done: false });
      return;
    }
    if (this.#waiting.length >= this.#limit) {
      if (!this.#dropsOldest) {
        const text = `more than ${this.#limit} messages were waiting to be taken`;
        this.end(new RealtimeError('overflow', text, { channel: message.channel }));
        return;
      }
      this.#waiting.shift();
    }
    this.#waiting.push(message);
  }

  /** What waits is still handed out; then the loop ends, or throws. */
  end(error: RealtimeError | null): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    this.#error = error;
    for (const taker of this.#takers.splice(0)) {
      if (this.#error === null) {
        taker.resolve({ value: undefined, done: true });
      } else {
        taker.reject(this.#takeError());
      }
    }
    this.#ended();
  }

  next(): Promise<IteratorResult<Message>> {
    const message = this.#waiting.shift();
    if (message !== undefined) {
      return Promise.resolve({ value: message, done: false });
    }
    if (this.#error !== null) {
      return Promise.reject(this.#takeError());
    }
    if (this.#isOver) {
      return Promise.resolve({ value: undefined, done: true });
    }
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<Message>> {
    this.#waiting = [];
    this.end(null);
    this.#error = null;
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #takeError(): RealtimeError | null {
    const error = this.#error;
    this.#error = null;
    return error;
  }
}

/** 1024: a burst, not a memory leak. */
const BUFFER = 1024;
