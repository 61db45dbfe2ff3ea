import type { RealtimeError } from './errors.js';
import { report } from './listeners.js';
import type { Position } from './seam.js';
import { startTimer } from './timer.js';
import type { Gap, History, HistoryOptions, Message, Meta } from './types.js';

type Past = History<Record<string, never>>;

/** A listener that joins a subscribed channel and wants some of its past first. */
export class LateListener {
  readonly #event: string;
  readonly #handler: (data: never, meta: Meta) => void;
  readonly #missed: (gap: Omit<Gap, 'channel'>) => void;
  /** Whether the channel has been left, and with it all listeners. */
  readonly #isLeft: () => boolean;
  /** What has come while the past is under way. */
  #waiting: [data: never, meta: Meta][] | null = [];
  /** The newest that came and had no room; infinite where it has no offset. */
  #dropped = -1;
  /** How far it has been told. */
  #at: Position | undefined;
  #isOver = false;

  constructor(
    event: string,
    handler: (data: never, meta: Meta) => void,
    since: Position | undefined,
    missed: (gap: Omit<Gap, 'channel'>) => void,
    isLeft: () => boolean,
  ) {
    this.#event = event;
    this.#handler = handler;
    this.#at = since;
    this.#missed = missed;
    this.#isLeft = isLeft;
  }

  readonly hear = (data: never, meta: Meta): void => {
    if (this.#waiting === null) {
      // The history may have been ahead of what the connection had heard.
      this.#isNew(meta) && this.#handler(data, meta);
    } else if (this.#waiting.push([data, meta]) > WAITING_MAX) {
      this.#dropped = this.#waiting.shift()![1].offset ?? Infinity;
    }
  };

  /** `remove` ends the listening; returns what ends all of it. */
  listen(remove: () => void): () => void {
    return () => {
      this.#isOver = true;
      remove();
    };
  }

  /**
   * Tells the past, page by page until there is no more of it, then what came meanwhile. Of a past that has no end it is said what
   * is left out. Rejects with what a page was refused with, when all that there is has been told.
   */
  async begin(read: (options: HistoryOptions) => Promise<Past>, rewind: number | undefined): Promise<void> {
    let failure: RealtimeError | undefined;
    let lost = -1;
    for (let tries = 1; !this.#isOver; tries += 1) {
      const since = this.#at;
      try {
        const page = await read(since === undefined ? { limit: rewind } : { since });
        if (this.#isLeft()) {
          return;
        }
        this.#tell(page, since);
        this.#at = page.next ?? page.position ?? undefined;
        if (page.next === null) {
          break;
        }
        if (tries >= PAGES_MAX) {
          lost = page.position!.offset;
          break;
        }
      } catch (error) {
        if (this.#isLeft()) {
          return;
        }
        const { retryAfter, message } = (failure = error as RealtimeError);
        if (retryAfter === undefined || tries >= PAGES_MAX) {
          since && this.#gap(since.offset + 1, null, message);
          break;
        }
        failure = undefined;
        await new Promise<void>((resolve) => startTimer(resolve, retryAfter));
      }
    }
    this.#end(lost);
    if (failure !== undefined) {
      throw failure;
    }
  }

  /** One page of what follows `since`, and what is missing between. */
  #tell({ messages, position }: Past, since: Position | undefined): void {
    if (since !== undefined) {
      const first = messages[0]?.offset ?? (position?.offset ?? -1) + 1;
      const isEpoch = position?.epoch === since.epoch;
      // Another message in the same place: the history went on from an earlier one.
      const isFork = isEpoch && position.offset === since.offset && position.tag !== since.tag;
      const isSame = isEpoch && first > since.offset && !isFork;
      if (!isSame || first > since.offset + 1) {
        this.#gap(isSame ? since.offset + 1 : null, isSame ? first - 1 : null, isSame ? 'expired' : isFork ? 'diverged' : 'epoch');
      }
    }
    for (const { data, ...meta } of messages as readonly Message<never>[]) {
      if (this.#event === '*' || this.#event === meta.event) {
        this.#call(data, meta);
      }
    }
  }

  /** What came meanwhile and is not in the past, up to `lost` of which nothing is told. */
  #end(lost: number): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    const at = this.#at;
    const to = Math.max(lost, this.#dropped);
    if (to > (at?.offset ?? -1)) {
      this.#gap(at ? at.offset + 1 : null, at && to < Infinity ? to : null, 'overflow');
      this.#at = at && { ...at, offset: Math.max(at.offset, lost) };
    }
    for (const [data, meta] of waiting) {
      this.#isNew(meta) && this.#call(data, meta);
    }
  }

  #isNew({ offset, epoch }: Meta): boolean {
    const at = this.#at;
    return offset === undefined || epoch !== at?.epoch || offset > at!.offset;
  }

  #gap(from: number | null, to: number | null, reason: string): void {
    if (!this.#isOver) {
      this.#missed({ kind: 'gap', from, to, reason });
    }
  }

  #call(data: never, meta: Meta): void {
    try {
      !this.#isOver && this.#handler(data, meta);
    } catch (error) {
      report(error);
    }
  }
}

/** 1,024 messages: a burst while the server answers, not a memory leak. */
const WAITING_MAX = 1024;

/** 100 pages, 30,000 messages of a server with default limits: more is a state to reload, not a past to hear. */
const PAGES_MAX = 100;
