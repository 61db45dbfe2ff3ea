import { type ChannelHandle, encode } from './channel.js';
import { type Handler, Listeners, nothingToEnd, unsubscriber } from './listeners.js';
import type { AbortOptions, Member, Presence, PresenceEvents, Unsubscribe } from './types.js';
import { fields } from './writer.js';

/** All members of a channel, as a message has them. */
interface Snapshot {
  readonly members: readonly Member[];
  readonly count: number;
}

/** The event that says who came, went, or shows other info. */
interface Change {
  readonly event: string;
  readonly data: { readonly id: string; readonly info?: unknown; readonly reason?: unknown };
}

/** The members of one channel as the machine tells them. */
export class Members implements Presence<unknown> {
  readonly #channel: ChannelHandle;
  readonly #listeners = new Listeners<keyof PresenceEvents<unknown> | 'change'>();
  readonly #known = new Map<string, Member>();
  /** A copy for readers, made when one asks. */
  #snapshot: ReadonlyMap<string, Member> | null = null;
  #count = 0;
  /** How many the server listed of more: what fits into its list. */
  #listedMax = 0;
  #isSynced = false;
  /** The member that the connection is, in the server's words. */
  #id: string | null = null;

  constructor(channel: ChannelHandle) {
    this.#channel = channel;
  }

  get members(): ReadonlyMap<string, Member> {
    return this.getSnapshot();
  }

  get me(): Member | null {
    return this.#known.get(this.#id as string) ?? null;
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
    const body = fields({ channel: this.#channel.name });
    const { members, count } = await this.#channel.ask('presence', body, options.signal);
    const told = (members ?? []).map(({ id, info }) => ({ id, info }));
    return { members: told, count: count ?? told.length };
  }

  async update(info: unknown, options: AbortOptions = {}): Promise<void> {
    const json = encode(info);
    const shown = json === 'null' ? null : json;
    await this.#channel.ask('presence_update', fields({ channel: this.#channel.name }, `"info":${json}`), options.signal, false, shown);
    this.#channel.shows(shown);
  }

  readonly subscribe = (onChange: () => void): (() => void) => this.#listen('change', onChange, {});

  readonly getSnapshot = (): ReadonlyMap<string, Member> => {
    this.#snapshot ??= new Map(this.#known);
    return this.#snapshot;
  };

  readonly getServerSnapshot = (): ReadonlyMap<string, Member> => NO_MEMBERS;

  /** Takes a snapshot of the members, and what changed since. `me` comes with a subscription, and stays with it. */
  sync({ members, count }: Snapshot, changes: readonly Change[], me?: string | null): void {
    this.#known.clear();
    this.#id = me ?? this.#id;
    for (const { id, info } of [...members].sort((a, b) => (a.id < b.id ? -1 : +(a.id > b.id)))) {
      if (!this.#known.has(id) && (this.#known.size < MEMBERS_MAX || id === this.#id)) {
        this.#known.set(id, { id, info });
      }
    }
    this.#count = Math.max(count, this.#known.size);
    this.#listedMax = this.#known.size;
    for (const change of changes) {
      this.#take(change);
    }
    this.#isSynced = true;
    this.#complete();
    this.#changed();
    this.#listeners.emit('sync', this.getSnapshot());
  }

  /** A member came, went, or shows other info. */
  change(change: Change): void {
    const member = this.#take(change);
    this.#complete();
    this.#changed();
    if (change.event !== GOING) {
      this.#listeners.emit(change.event === COMING ? 'join' : 'update', member);
    } else {
      const { reason } = change.data;
      this.#listeners.emit('leave', member, typeof reason === 'string' ? reason : null);
    }
  }

  #take({ event, data: { id, info } }: Change): Member {
    const known = this.#known.get(id);
    if (event !== GOING) {
      const member = { id, info };
      const isNew = known === undefined && event === COMING;
      this.#count += +isNew;
      // Where only some are listed it may be one of the others that shows other info.
      if (known !== undefined || (isNew && (this.#known.size < MEMBERS_MAX || id === this.#id))) {
        this.#known.set(id, member);
      }
      return member;
    }
    this.#known.delete(id);
    this.#count = Math.max(this.#count - 1, this.#known.size);
    return known ?? { id, info: null };
  }

  /** Asks for the members that are missing where a new list would have them: all of them, or many. */
  #complete(): void {
    const listed = this.#known.size;
    if (listed < this.#count && (this.#count <= this.#listedMax || listed < this.#listedMax / 2)) {
      this.#channel.membersIncomplete();
    }
  }

  /** The connection is away: what is known may be out of date. */
  suspend(): void {
    this.#isSynced = false;
  }

  /** The channel has no listener any more. */
  forget(): void {
    this.#isSynced = false;
    this.#id = null;
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
    let isListening = true;
    if (event === 'sync' && this.#isSynced) {
      // The last one is over: it hears of that one, once the caller has what ends it.
      queueMicrotask(() => {
        if (isListening && this.#isSynced) {
          const late = new Listeners<'sync'>();
          late.add('sync', handler);
          late.emit('sync', this.getSnapshot());
        }
      });
    }
    const end = () => {
      isListening = false;
      remove();
      release();
    };
    return unsubscriber(end, options.signal);
  }
}

const NO_MEMBERS: ReadonlyMap<string, Member> = new Map();

const COMING = 'member_added';
const GOING = 'member_removed';

/** 10,000: a list that a page can still draw; beyond it only the count is kept. */
const MEMBERS_MAX = 10_000;
