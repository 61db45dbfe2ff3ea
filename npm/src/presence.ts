import type { ChannelHandle } from './channel.js';
import { Input } from './seam.js';
import { type Handler, Listeners, nothingToEnd, unsubscriber } from './listeners.js';
import type { AbortOptions, Member, Presence, PresenceEvents, Unsubscribe } from './types.js';

/** The members of one channel as the machine tells them. */
export class Members implements Presence<unknown> {
  readonly #channel: ChannelHandle;
  readonly #listeners = new Listeners<keyof PresenceEvents<unknown> | 'change'>();
  readonly #known = new Map<string, Member>();
  /** A copy for readers, made when one asks. */
  #snapshot: ReadonlyMap<string, Member> | null = null;
  #count = 0;
  #isSynced = false;

  constructor(channel: ChannelHandle) {
    this.#channel = channel;
  }

  get members(): ReadonlyMap<string, Member> {
    return this.getSnapshot();
  }

  get me(): Member | null {
    const id = this.#channel.userId;
    return id === null ? null : (this.#known.get(id) ?? null);
  }

  get count(): number {
    return this.#count;
  }

  get synced(): boolean {
    return this.#isSynced;
  }

  on<Event extends keyof PresenceEvents<unknown>>(
    event: Event,
    handler: (...values: PresenceEvents<unknown>[Event]) => void,
    options: AbortOptions = {},
  ): Unsubscribe {
    return this.#listen(event, handler, options);
  }

  async fetch(options: AbortOptions = {}): Promise<{ members: readonly Member[]; count: number }> {
    const { members, count } = await this.#channel.ask(
      (driver, number) => driver.command(Input.Presence, number, this.#channel.name),
      options.signal,
    );
    const told = (members ?? []).map(({ id, info }) => ({ id, info }));
    return { members: told, count: count ?? told.length };
  }

  readonly subscribe = (onChange: () => void): (() => void) => this.#listen('change', onChange, {});

  readonly getSnapshot = (): ReadonlyMap<string, Member> => {
    this.#snapshot ??= new Map(this.#known);
    return this.#snapshot;
  };

  /** Ids, each followed by the number of its information. One whose value is let go of has been told before. */
  sync(items: any[], at: (node: number) => unknown, count: number): void {
    const before = new Map(this.#known);
    this.#known.clear();
    for (let index = 0; index < items.length; index += 2) {
      const id = items[index];
      const info = at(items[index + 1]);
      this.#known.set(id, info === undefined && before.has(id) ? (before.get(id) as Member) : { id, info });
    }
    this.#count = count;
    this.#isSynced = true;
    this.#changed();
    this.#listeners.emit('sync', this.getSnapshot());
  }

  joined(id: string, info: unknown): void {
    const member = { id, info };
    if (!this.#known.has(id)) {
      this.#count += 1;
    }
    this.#known.set(id, member);
    this.#changed();
    this.#listeners.emit('join', member);
  }

  left(id: string, reason: string | null): void {
    const member = this.#known.get(id) ?? { id, info: null };
    this.#known.delete(id);
    this.#count = Math.max(this.#count - 1, this.#known.size);
    this.#changed();
    this.#listeners.emit('leave', member, reason);
  }

  /** The connection is away: what is known may be out of date. */
  suspend(): void {
    this.#isSynced = false;
  }

  /** Nobody listens to the channel any more. */
  forget(): void {
    this.#isSynced = false;
    this.#count = 0;
    if (this.#known.size > 0) {
      this.#known.clear();
      this.#changed();
    }
  }

  clear(): void {
    this.#listeners.clear();
  }

  #changed(): void {
    this.#snapshot = null;
    this.#listeners.emit('change');
  }

  #listen(
    event: keyof PresenceEvents<unknown> | 'change',
    handler: Handler,
    options: AbortOptions,
  ): Unsubscribe {
    if (options.signal?.aborted) {
      return nothingToEnd();
    }
    const remove = this.#listeners.add(event, handler);
    const release = this.#channel.retain();
    const end = () => {
      remove();
      release();
    };
    return unsubscriber(end, options.signal);
  }
}
