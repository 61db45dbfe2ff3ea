import type { Connection } from './connection.js';
import { aborted, RealtimeError } from './errors.js';
import { Listeners, nothingToEnd, unsubscriber, whenAborted } from './listeners.js';
import { LateListener } from './late.js';
import { MessageQueue } from './messages.js';
import { Members } from './presence.js';
import { CHANNEL, EVENT, KEY, named } from './names.js';
import type { Reply } from './requests.js';
import type { Position } from './seam.js';
import { startTimer } from './timer.js';
import { Tracker } from './tracker.js';
import type {
  AbortOptions,
  ChannelState,
  Gap,
  History,
  HistoryOptions,
  Message,
  MessagesOptions,
  Meta,
  PublishOptions,
  SubscribeOptions,
  Unsubscribe,
  WaitOptions,
} from './types.js';
import { positionItems, type Values } from './values.js';
import { fields } from './writer.js';

/** The one handle of a channel that everybody shares. */
export class ChannelHandle {
  readonly name: string;
  readonly presence: Members;
  /** Where it stands, for a machine that has to take over. */
  readonly tracker = new Tracker();
  /** What the machine knows it by, once it has said something of it. */
  number = 0;
  /** The server subscribed this connection by itself, and ends it by itself. */
  isJoinedByServer = false;
  readonly #connection: Connection;
  readonly #messages = new Listeners<string>();
  readonly #changes = new Listeners<'state' | 'gap' | 'end'>();
  #state: ChannelState = 'idle';
  #error: RealtimeError | null = null;
  #options: SubscribeOptions = {};
  /** The last info that this client has changed to, and for which user. */
  #shown: { info: string | null; userId: string | null } | null = null;
  #users = 0;
  #linger: ReturnType<typeof setTimeout> | undefined;
  /** What came while there was no listener, in order. */
  #held: (() => void)[] | null = null;
  /** Messages were lost with a machine, and nothing says which. */
  #hasLost = false;
  /** Counts `unsubscribe` calls: who came before the last one holds nothing any more. */
  #generation = 0;

  constructor(name: string, connection: Connection) {
    this.name = name;
    this.#connection = connection;
    this.presence = new Members(this);
  }

  get state(): ChannelState {
    return this.#state;
  }

  get error(): RealtimeError | null {
    return this.#error;
  }

  get position(): Position | null {
    return (this.#connection.position(this.name) ?? this.tracker.position) ?? null;
  }

  /** The list of members lacks some that there is room for. */
  membersIncomplete(): void {
    this.#connection.membersIncomplete(this);
  }

  /** Whether a new machine has to subscribe to it. */
  get isWanted(): boolean {
    return !this.isJoinedByServer && this.#state !== 'failed' && this.#state !== 'closed';
  }

  /** Whether there is a listener, or was a moment ago (`linger`). */
  get isUsed(): boolean {
    return this.#users > 0 || this.#linger !== undefined;
  }

  on(event: string, handler: (data: never, meta: Meta) => void, options: SubscribeOptions = {}): Unsubscribe {
    const { since, rewind } = options;
    const isFirst = this.#state === 'idle' || this.#state === 'failed' || this.#state === 'closed';
    if (isFirst || (since === undefined && !rewind)) {
      return this.#listen(() => this.#messages.add(event, handler), options);
    }
    // The subscription has begun without this listener: what it wants of the past is asked for, and what comes meanwhile waits.
    if (options.signal?.aborted) {
      return nothingToEnd();
    }
    const generation = this.#generation;
    const missed = (gap: Omit<Gap, 'channel'>) => this.#connection.missed({ channel: this.name, ...gap });
    const late = new LateListener(event, handler, since, missed, () => generation !== this.#generation);
    const end = this.#listen(() => late.listen(this.#messages.add(event, late.hear)), options);
    const read = (page: HistoryOptions) => this.history(page);
    late.begin(read, rewind).catch((error: RealtimeError) => {
      // Where nothing is kept there is nothing to begin with.
      if (error.serverCode !== NO_HISTORY) {
        this.#connection.complain(error);
      }
    });
    return end;
  }

  onState(
    handler: (state: ChannelState, previous: ChannelState, error: RealtimeError | null) => void,
    options: AbortOptions = {},
  ): Unsubscribe {
    return this.#listen(() => this.#changes.add('state', handler), options);
  }

  onGap(handler: (gap: Gap) => void, options: AbortOptions = {}): Unsubscribe {
    return this.#listen(() => this.#changes.add('gap', handler), options);
  }

  once(event: string, options: WaitOptions = {}): Promise<Message<never>> {
    return this.#wait(options, `no "${event}" came in time`, (resolve) =>
      this.#messages.add(event, (data: never, meta: Meta) => resolve(message(data, meta))),
    );
  }

  messages(event: string | readonly string[], options: MessagesOptions = {}): MessageQueue {
    this.#connection.checkOpen();
    const { signal } = options;
    const off: (() => void)[] = [];
    const queue = new MessageQueue(options, () => off.forEach((remove) => remove()));
    const failure = this.#connection.failure;
    if (signal?.aborted || failure !== null) {
      queue.end(signal?.aborted ? null : failure);
      return queue;
    }
    const push = (data: unknown, meta: Meta) => queue.push(message(data, meta));
    for (const name of typeof event === 'string' ? [event] : new Set(event)) {
      off.push(this.#messages.add(name, push));
    }
    off.push(this.#changes.add('end', (error: RealtimeError | null) => queue.end(error)));
    off.push(whenAborted(signal, () => queue.end(null)));
    const release = this.retain();
    off.push(release);
    if (queue.isOver) {
      release();
    }
    return queue;
  }

  [Symbol.asyncIterator](): MessageQueue {
    return this.messages('*');
  }

  async publish(
    event: string,
    data: unknown,
    options: PublishOptions = {},
  ): Promise<{ position: Position | null }> {
    const body = publication(this.#connection, event, data, options, this.name);
    const reply = await this.ask('publish', body, options.signal, true);
    return { position: reply.position ?? null };
  }

  async history(options: HistoryOptions = {}): Promise<History<Record<string, never>>> {
    const { since, limit, signal } = options;
    const body = fields({ channel: this.name, since: since && checked(since), limit: whole(limit) });
    const reply = await this.ask('history', body, signal);
    // The first is of the epoch that the reply ends in, unless it says another.
    let epoch = reply.position?.epoch;
    const messages = (reply.events ?? []).map((event) => {
      epoch = event.epoch ?? epoch;
      return {
        channel: this.name,
        event: event.event,
        data: event.data as never,
        id: event.event_id ?? undefined,
        offset: event.offset ?? undefined,
        epoch: event.offset == null ? undefined : epoch,
        tag: event.offset == null ? undefined : (event.tag ?? '0'),
        recovered: true,
        from: event.user_id == null ? undefined : { id: event.user_id },
      };
    });
    const position = reply.position ?? null;
    const { offset = Infinity, tag = '' } = messages.at(-1) ?? {};
    const isCut = position !== null && epoch === position.epoch && offset < position.offset;
    return { messages, position, next: isCut ? { epoch: position.epoch, offset, tag } : null };
  }

  async ready(options: WaitOptions = {}): Promise<this> {
    await this.#wait<void>(options, 'the server did not confirm the subscription in time', (resolve) => {
      // In a handler the state is that of before until the handler returns: perhaps of a connection that has been given up.
      queueMicrotask(() => this.#state === 'subscribed' && resolve());
      return this.#changes.add('state', (state: ChannelState) => state === 'subscribed' && resolve());
    });
    return this;
  }

  unsubscribe(): void {
    this.#generation += 1;
    this.#users = 0;
    this.#leave(null);
    this.#messages.clear();
    this.#changes.clear();
    this.presence.clear();
  }

  [Symbol.dispose](): void {
    this.unsubscribe();
  }

  /** Sends a command about this channel. */
  async ask(type: string, body: string, signal: AbortSignal | undefined, isRepeatable = false, info?: string | null): Promise<Reply> {
    return this.#connection.ask({ type, channel: named(this.name, CHANNEL), body, isRepeatable, info }, signal);
  }

  /** Counts one more user of the channel; returns what takes that back. */
  retain(options?: SubscribeOptions): () => void {
    this.#connection.checkOpen();
    const generation = this.#generation;
    const data = options?.data;
    if (data !== undefined && this.isUsed && encode(data) !== encode(this.#options.data)) {
      if (this.#users > 0 || this.isJoinedByServer) {
        throw new RealtimeError('bad-argument', 'the channel is subscribed already, with other `data`', { channel: this.name });
      }
      this.#leave(null);
    }
    this.#users += 1;
    clearTimeout(this.#linger);
    this.#linger = undefined;
    if (this.#state === 'idle' || this.#state === 'failed' || this.#state === 'closed') {
      this.#options = options ?? {};
      this.#connection.activate(this);
    }
    if (this.#held !== null) {
      // A listener that is added in this turn hears what came while there was none.
      queueMicrotask(() => {
        if (this.#users > 0) {
          const held = this.#held ?? [];
          this.#held = null;
          held.forEach((tell) => tell());
        }
      });
    }
    return () => {
      if (generation !== this.#generation) {
        return;
      }
      this.#users -= 1;
      if (this.#users === 0) {
        this.#held ??= [];
        this.#linger = startTimer(() => this.#leave(null), this.#connection.linger);
      }
    };
  }

  /** The server shows this info, or none: another machine joins with it as well. */
  shows(info: string | null): void {
    this.#shown = { info, userId: this.#connection.status.userId };
  }

  /** What a machine is told to subscribe: from where it stands, else from where the first listener wanted to begin. */
  subscription(values: Values): number[] {
    const { since, rewind, data } = this.#options;
    const from = this.tracker.position ?? since;
    return [
      values.put(named(this.name, CHANNEL)),
      ...(from ? positionItems(checked(from)) : [-1]),
      from ? -1 : (whole(rewind) ?? -1),
      values.put(data === undefined ? undefined : encode(data)),
      // Without a login the next channel token may name another user.
      values.put(this.#shown?.userId == null ? undefined : this.#shown.info),
    ];
  }

  /** The machine, or the connection in its place, has news about the state. */
  become(state: ChannelState, error: RealtimeError | null): void {
    const previous = this.#state;
    if (state === previous && error === null) {
      return;
    }
    this.#state = state;
    this.#error = error;
    const isOver = state === 'failed' || state === 'closed';
    if (isOver) {
      this.presence.forget();
    } else if (state !== 'subscribed') {
      this.presence.suspend();
    }
    this.#changes.emit('state', state, previous, error);
    if (isOver) {
      this.tracker.move(undefined);
      this.#changes.emit('end', error);
    }
  }

  receive(data: unknown, meta: Meta): void {
    if (this.#held !== null) {
      this.#hold(() => this.receive(data, meta));
      return;
    }
    this.#messages.dispatch(meta.event, data, meta);
    if (this.#messages.has('*')) {
      this.#messages.dispatch('*', data, meta);
    }
  }

  missed(gap: Gap): void {
    if (this.#held !== null) {
      this.#hold(() => this.missed(gap));
    } else {
      this.#changes.emit('gap', gap);
    }
  }

  /** No connection will come: what waits for this channel ends. */
  fail(error: RealtimeError): void {
    this.#changes.emit('end', error);
  }

  /** The machine is gone. What it had of a channel without positions is lost. */
  interrupt(): void {
    if (this.#state === 'subscribed') {
      this.#hasLost ||= this.tracker.position === undefined;
    }
    if (this.isWanted || this.isJoinedByServer) {
      this.become('suspended', null);
    }
  }

  /** Subscribed again. */
  resumed(): void {
    if (this.#shown?.userId !== this.#connection.status.userId) {
      this.#shown = null;
    }
    if (this.#hasLost) {
      this.#hasLost = false;
      this.#connection.missed({ channel: this.name, kind: 'gap', from: null, to: null, reason: 'away' });
    }
  }

  /** The client is closed. */
  end(error: RealtimeError): void {
    // What still listens holds nothing any more, and nothing lingers for it.
    this.#generation += 1;
    this.#users = 0;
    this.#leave(error);
  }

  /** Keeps what came while there was no listener. When it is too much, all of it is dropped and told as a gap. */
  #hold(tell: () => void): void {
    const held = this.#held as (() => void)[];
    if (held.length >= HELD_MAX) {
      held.splice(0, HELD_MAX, () => this.missed({ channel: this.name, kind: 'gap', from: null, to: null, reason: 'overflow' }));
    }
    held.push(tell);
  }

  #leave(error: RealtimeError | null): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    this.#held = null;
    if (!this.isJoinedByServer) {
      this.tracker.move(undefined);
      this.#hasLost = false;
      this.#shown = null;
      this.#connection.deactivate(this);
      this.become('idle', null);
      this.presence.forget();
    }
    this.#changes.emit('end', error);
  }

  #listen(add: () => () => void, options: SubscribeOptions): Unsubscribe {
    this.#connection.checkOpen();
    if (options.signal?.aborted) {
      return nothingToEnd();
    }
    const remove = add();
    let release: () => void;
    try {
      release = this.retain(options);
    } catch (error) {
      // The options are refused: the listener is removed.
      remove();
      throw error;
    }
    const end = () => {
      remove();
      release();
    };
    return unsubscriber(end, options.signal);
  }

  /** Waits for something that the channel will say, as long as it can. */
  #wait<T>(
    { signal, timeout }: WaitOptions,
    lateText: string,
    listen: (resolve: (value: T) => void) => () => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const failure = signal?.aborted ? aborted(signal) : this.#connection.failure;
      if (failure !== null) {
        reject(failure);
        return;
      }
      const off: (() => void)[] = [];
      let isOver = false;
      const until = (remove: () => void) => (isOver ? remove() : off.push(remove));
      const settle = (act: () => void) => {
        isOver = true;
        for (const remove of off.splice(0)) {
          remove();
        }
        act();
      };
      const fail = (error: RealtimeError) => settle(() => reject(error));
      const ended = new RealtimeError('closed', 'the subscription ended', { channel: this.name });
      until(this.#changes.add('end', (error: RealtimeError | null) => fail(error ?? ended)));
      until(whenAborted(signal, () => fail(aborted(signal as AbortSignal))));
      if (timeout !== undefined) {
        const late = new RealtimeError('timeout', lateText, { channel: this.name, retryable: true });
        const timer = startTimer(() => fail(late), timeout);
        until(() => clearTimeout(timer));
      }
      until(this.retain());
      until(listen((value) => settle(() => resolve(value))));
    });
  }
}

/** 256 messages: a page that is rendered again is back before there are more. */
const HELD_MAX = 256;

/** `no_history` in the server's table of codes. */
const NO_HISTORY = 4312;

function message(data: unknown, meta: Meta): Message<never> {
  return { ...meta, data: data as never };
}

/** JSON text of a payload. */
export function encode(data: unknown): string {
  let json: string | undefined;
  let thrown: { cause: unknown } | undefined;
  try {
    json = JSON.stringify(data ?? null);
  } catch (cause) {
    thrown = { cause };
  }
  if (json === undefined) {
    throw new RealtimeError('bad-argument', 'a payload must be something that JSON can say', thrown);
  }
  return json;
}

/** The fields of a command that publishes. */
export function publication(connection: Connection, event: string, data: unknown, options: PublishOptions, channel?: string): string {
  const json = encode(data);
  const key = options.key ?? connection.makeKey();
  return fields({ channel, event: named(event, EVENT) }, `"data":${json}`, { key: named(key, KEY) });
}

/** What an application has given as a position. */
function checked({ epoch, offset, tag }: Position): Position {
  const isMark = (text: unknown) => typeof text === 'string' && /^[\da-f]{1,16}$/.test(text);
  if (!isMark(epoch) || !isMark(tag) || whole(offset) === undefined) {
    throw new RealtimeError('bad-argument', 'a position is {epoch, offset, tag}');
  }
  return { epoch, offset, tag };
}

function whole(number: number | undefined): number | undefined {
  return Number.isSafeInteger(number) && number! >= 0 ? number : undefined;
}
