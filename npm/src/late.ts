import { report } from './listeners.js';
import type { Position } from './seam.js';
import type { Gap, History, Message, Meta } from './types.js';

/** Someone who listens to a channel that others have subscribed, and wants something of its past first. */
export class LateListener {
  readonly #event: string;
  readonly #handler: (data: never, meta: Meta) => void;
  readonly #since: Position | undefined;
  readonly #missed: (gap: Omit<Gap, 'channel'>) => void;
  /** What has come while the past is under way. */
  #waiting: [data: never, meta: Meta][] | null = [];
  #isOver = false;

  constructor(
    event: string,
    handler: (data: never, meta: Meta) => void,
    since: Position | undefined,
    missed: (gap: Omit<Gap, 'channel'>) => void,
  ) {
    this.#event = event;
    this.#handler = handler;
    this.#since = since;
    this.#missed = missed;
  }

  readonly hear = (data: never, meta: Meta): void => {
    if (this.#waiting === null) {
      this.#handler(data, meta);
    } else if (this.#waiting.push([data, meta]) > WAITING_MAX) {
      this.#waiting.shift();
    }
  };

  /** `remove` ends the listening; returns what ends all of it. */
  listen(remove: () => void): () => void {
    return () => {
      this.#isOver = true;
      remove();
    };
  }

  /** Here is the past. What came meanwhile and is not in it follows. */
  begin({ messages, position }: History<Record<string, never>>): void {
    const since = this.#since;
    const waiting = this.#waiting ?? [];
    const top = position?.offset ?? -1;
    this.#waiting = null;
    if (since !== undefined) {
      const first = messages[0]?.offset ?? top + 1;
      const isSame = position?.epoch === since.epoch && first > since.offset;
      if (!isSame || first > since.offset + 1) {
        this.#gap(isSame ? since.offset + 1 : null, isSame ? first - 1 : null, isSame ? 'expired' : 'epoch');
      }
    }
    for (const { data, ...meta } of messages as readonly Message<never>[]) {
      if (this.#event === '*' || this.#event === meta.event) {
        this.#tell(data, meta);
      }
    }
    if (waiting.length === WAITING_MAX) {
      this.#gap(null, null, 'overflow');
    }
    for (const [data, meta] of waiting) {
      if (meta.offset === undefined || meta.epoch !== position?.epoch || meta.offset > top) {
        this.#tell(data, meta);
      }
    }
  }

  #gap(from: number | null, to: number | null, reason: string): void {
    if (!this.#isOver) {
      this.#missed({ kind: 'gap', from, to, reason });
    }
  }

  #tell(data: never, meta: Meta): void {
    try {
      !this.#isOver && this.#handler(data, meta);
    } catch (error) {
      report(error);
    }
  }
}

/** 1,024 messages: a burst while the server answers, not a memory leak. */
const WAITING_MAX = 1024;
