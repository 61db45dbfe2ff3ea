import type { RealtimeError } from './errors.js';
import type { HeaderValues, Signal, Url } from './globals.js';
import type { Position } from './seam.js';

/**
 * The place to say once what your channels carry:
 * `declare module '@fanfare/client' { interface Register { channels: MyChannels } }`.
 */
// biome-ignore lint: an empty interface is what module augmentation needs.
export interface Register {}

/** The registered channels, or any. */
export type DefaultChannels = Register extends { channels: infer Channels } ? Channels : AnyChannels;

/** What one channel carries. */
export interface ChannelDefinition {
  /** Payloads by event, from the server. */
  events?: object;
  /** Payloads by event that clients may publish; the same as `events` when absent. */
  publish?: object;
  /** What is known about a member. */
  member?: unknown;
}

/** Channels of which nothing is known. */
export interface AnyChannels {
  [name: string]: { events: Record<string, any>; publish: Record<string, any>; member: any };
}

/** The definition of the channel with this name; anything for a name that is not declared. */
export type DefinitionOf<Channels, Name extends string> = Name extends keyof Channels ? Channels[Name] : AnyChannels[string];
export type EventsOf<Definition> = Definition extends { events: infer Events } ? Events : Record<string, unknown>;
export type PublishOf<Definition> = Definition extends { publish: infer Publish } ? Publish : EventsOf<Definition>;
export type MemberOf<Definition> = Definition extends { member: infer Info } ? Info : unknown;
export type Key<T> = keyof T & string;

/** Ends what it was returned for; calling it again does nothing. Works with `using`. */
export type Unsubscribe = (() => void) & Disposable;

/**
 * - `idle`: never asked to connect
 * - `connecting`: on the way to the first connection
 * - `reconnecting`: lost, on the way back
 * - `offline`: the network is said to be gone, or the page sleeps; attempts are as rare as `backoff.max` allows
 * - `disconnected`: ended by the application
 * - `failed`: ended for good; only `connect()` tries again
 */
export type ConnectionState = 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'offline' | 'disconnected' | 'failed';

/** The connection's state and how it came about. What a handler asks for shows when the handler has returned. */
export interface ConnectionStatus {
  readonly state: ConnectionState;
  readonly previous: ConnectionState;
  readonly socketId: string | null;
  /** The user that the connection belongs to, as the server says. */
  readonly userId: string | null;
  /** How many attempts have failed since the last healthy connection. */
  readonly attempt: number;
  /** When the next attempt is made, as `Date.now()` counts. */
  readonly retryAt: number | null;
  /** Whether this connection follows an earlier one. */
  readonly resumed: boolean;
  readonly error: RealtimeError | null;
  /** The close code, where there was one. */
  readonly code: number | null;
  readonly reason: string | null;
}

/**
 * - `idle`: no listener
 * - `suspended`: wanted, but there is no connection; position and members are kept
 * - `failed`: refused; a new listener, or `ready()`, asks again
 * - `closed`: ended by the server; a new listener, or `ready()`, asks again
 */
export type ChannelState = 'idle' | 'authorizing' | 'subscribing' | 'subscribed' | 'suspended' | 'failed' | 'closed';

/** Where a message stands and where it comes from. */
export interface Meta {
  readonly channel: string;
  readonly event: string;
  /** The id of the bus event it came from. */
  readonly id: string | undefined;
  /** Its number in the channel's history, on channels that keep one. */
  readonly offset: number | undefined;
  readonly epoch: string | undefined;
  /** With `epoch` and `offset` the position of this message: what {@link SubscribeOptions.since} takes. */
  readonly tag: string | undefined;
  /** Whether it was published while this client was away, or before it came. */
  readonly recovered: boolean;
  /** The sender, on messages from other clients. */
  readonly from: { readonly id: string } | undefined;
}

/** A message with its payload. */
export interface Message<Data = unknown, Event extends string = string> extends Meta {
  readonly event: Event;
  readonly data: Data;
}

/** A message of any of these events. */
export type AnyMessage<Events> = { [Event in Key<Events>]: Message<Events[Event], Event> }[Key<Events>];

/** Messages were missed: reload what depends on them. */
export interface Gap {
  readonly channel: string;
  /** `reset`: the channel's history started over. */
  readonly kind: 'gap' | 'reset';
  /** The first offset that is missing, where it is known. */
  readonly from: number | null;
  /** The last one. */
  readonly to: number | null;
  readonly reason: string;
}

/** Something to look at while developing. In `frame-out` every token is `...`. */
export interface DebugEvent {
  /** As `Date.now()` counts. */
  readonly time: number;
  readonly kind: 'frame-in' | 'frame-out' | 'state' | 'channel' | 'error' | 'restart';
  readonly detail: unknown;
}

export interface AbortOptions {
  /** Ends it. */
  signal?: Signal | undefined;
}

export interface WaitOptions extends AbortOptions {
  /** Milliseconds until it is given up; without it there is no end. */
  timeout?: number | undefined;
}

/**
 * Where a listener begins. A later listener of a channel gets its part of the past from the channel's history, and hears of
 * the others' events from then on.
 */
export interface SubscribeOptions extends AbortOptions {
  /** Everything after this position, such as one kept from an earlier visit. */
  since?: Position | undefined;
  /** The last so many messages first: at most as many as the server hands out at once, 300 unless it is configured otherwise. */
  rewind?: number | undefined;
  /** An unsigned hint about the member, on presence channels. Another one while there are other listeners throws. */
  data?: unknown;
}

export interface PublishOptions extends AbortOptions {
  /** Within ten minutes, the same key on the same channel publishes once: of a user on any connection, of others on the same one. */
  key?: string | undefined;
}

export interface MessagesOptions extends AbortOptions {
  /** How many messages may wait to be taken: 1024. */
  buffer?: number | undefined;
  /** What happens then: the loop throws (the default), or the oldest are forgotten. */
  overflow?: 'error' | 'drop-oldest' | undefined;
}

export interface HistoryOptions extends AbortOptions {
  /** Only messages after this position, the oldest first; otherwise the newest. */
  since?: Position | undefined;
  /** At most so many. The server has a limit of its own, 300 messages and 1 MiB unless it is configured otherwise. */
  limit?: number | undefined;
}

/** Past messages, oldest first. */
export interface History<Events> {
  readonly messages: readonly AnyMessage<Events>[];
  /** Where the channel stood then: after them, unless there is more. */
  readonly position: Position | null;
  /** There is more after these: where to go on, as the next `since`. Null when these reach up to `position`. */
  readonly next: Position | null;
}

/** A member of a presence channel. */
export interface Member<Info = unknown> {
  readonly id: string;
  readonly info: Info;
}

export interface PresenceEvents<Info> {
  /** All members: after a subscription, and when they had to be asked for again. */
  sync: [members: ReadonlyMap<string, Member<Info>>];
  join: [member: Member<Info>];
  /** A member shows other info. */
  update: [member: Member<Info>];
  /** `reason` in the server's words. */
  leave: [member: Member<Info>, reason: string | null];
}

/** The members of a presence channel, known while the channel has a listener. */
export interface Presence<Info = unknown> {
  /** By id. Not changed: each change makes a new map. */
  readonly members: ReadonlyMap<string, Member<Info>>;
  /** The member that this connection is: its user, or the one that the channel token was signed for. */
  readonly me: Member<Info> | null;
  /** How many there are; may exceed the size of `members`, which the server caps. */
  readonly count: number;
  /** Whether `members` is up to date; false while the connection is away. */
  readonly synced: boolean;
  on<Event extends keyof PresenceEvents<Info>>(
    event: Event,
    handler: (...values: PresenceEvents<Info>[Event]) => void,
    options?: AbortOptions,
  ): Unsubscribe;
  /** Asks the server who is there now. Needs the subscription, as {@link Channel.ready} awaits it. */
  fetch(options?: AbortOptions): Promise<{ members: readonly Member<Info>[]; count: number }>;
  /**
   * Shows other info about this connection's user, where the channel's rule allows it (4330); `null` takes that back. Resolves when
   * the server has it. It is shown again after every reconnect of a logged-in user, until the channel is left or another user logs in; while the channel
   * is being subscribed it goes out with the subscription. Needs a subscription, as {@link Channel.publish} does.
   */
  update(info: Info | null, options?: AbortOptions): Promise<void>;
  /** For `useSyncExternalStore`: called after each change of `members`. */
  subscribe(onChange: () => void): () => void;
  /** For `useSyncExternalStore`: `members`. */
  getSnapshot(): ReadonlyMap<string, Member<Info>>;
  /** For `useSyncExternalStore`: what `members` is on a server, and while a page is hydrated. */
  getServerSnapshot(): ReadonlyMap<string, Member<Info>>;
}

/**
 * A channel. There is one per name, shared by everybody who asks for it.
 *
 * The subscription begins with the first listener, iterator or `ready()` and ends about a second after the last is gone.
 */
export interface Channel<Definition = AnyChannels[string], Name extends string = string>
  extends AsyncIterable<AnyMessage<EventsOf<Definition>>>,
    Disposable {
  readonly name: Name;
  readonly state: ChannelState;
  /** Why it is in this state, when something went wrong. */
  readonly error: RealtimeError | null;
  /** Where the subscription stands, on channels with history. */
  readonly position: Position | null;
  readonly presence: Presence<MemberOf<Definition>>;
  /** Listens to one event, or to all of them (`'*'`). */
  on<Event extends Key<EventsOf<Definition>>>(
    event: Event,
    handler: (data: EventsOf<Definition>[Event], meta: Meta) => void,
    options?: AbortOptions,
  ): Unsubscribe;
  on(
    event: '*',
    handler: (data: EventsOf<Definition>[Key<EventsOf<Definition>>], meta: Meta) => void,
    options?: AbortOptions,
  ): Unsubscribe;
  onState(
    handler: (state: ChannelState, previous: ChannelState, error: RealtimeError | null) => void,
    options?: AbortOptions,
  ): Unsubscribe;
  onGap(handler: (gap: Gap) => void, options?: AbortOptions): Unsubscribe;
  /** The next message of this event. */
  once<Event extends Key<EventsOf<Definition>>>(
    event: Event,
    options?: WaitOptions,
  ): Promise<Message<EventsOf<Definition>[Event], Event>>;
  /** Messages for `for await`; an abort ends the loop. Listening begins with this call. */
  messages<Event extends Key<EventsOf<Definition>>>(
    event: Event | readonly Event[],
    options?: MessagesOptions,
  ): AsyncIterableIterator<Message<EventsOf<Definition>[Event], Event>>;
  /** Resolves when the server has it. Waits for a connection, at most as long as `queue.ttl` says. */
  publish<Event extends Key<PublishOf<Definition>>>(
    event: Event,
    data: PublishOf<Definition>[Event],
    options?: PublishOptions,
  ): Promise<{ position: Position | null }>;
  /** What was published, also before this client came. Needs the subscription, as {@link Channel.ready} awaits it. */
  history(options?: HistoryOptions): Promise<History<EventsOf<Definition>>>;
  /** Resolves when the server has confirmed the subscription. */
  ready(options?: WaitOptions): Promise<this>;
  /** Ends the subscription for everybody: removes all listeners, ends all loops. */
  unsubscribe(): void;
}

/** What a client tells. */
export interface ClientEvents {
  status: [status: ConnectionStatus];
  connected: [connection: { socketId: string; resumed: boolean }];
  disconnected: [why: { code: number | null; reason: string | null; willReconnect: boolean }];
  /** Messages of a channel were missed. */
  gap: [gap: Gap];
  /** Whatever went wrong, also in a channel. */
  error: [error: RealtimeError];
}

/** A channel token that is wanted. */
export interface AuthRequest {
  readonly channel: string;
  readonly socketId: string;
  readonly reason: 'subscribe' | 'resubscribe' | 'expired';
  /** Fires when the answer is no longer wanted. */
  readonly signal: Signal;
}

/** What an auth endpoint answers. */
export interface AuthResult {
  auth: string;
  channel_data?: string;
}

/** Where channel tokens come from. */
export interface AuthEndpoint {
  /** By default the socket's own address with `/auth` behind it. */
  endpoint?: string | Url | undefined;
  /**
   * Ask for up to 100 channels with one request, `{ socket_id, channels }`, as the server's own endpoint takes them: true, and false
   * where `endpoint` is given. An endpoint that answers a list without `channels`, or refuses it
   * with a 4xx status, is asked for one at a time from then on.
   */
  batch?: boolean | undefined;
  headers?: HeaderValues | (() => HeaderValues | Promise<HeaderValues>) | undefined;
  /** `include` by default. */
  credentials?: 'omit' | 'same-origin' | 'include' | undefined;
  /** Milliseconds: 10 000. */
  timeout?: number | undefined;
}

/** Gives a token, or nothing to stay anonymous. An `UnauthorizedError` is final, any other error is tried again. */
export type TokenProvider = (context: {
  reason: 'connect' | 'expiring' | 'rejected';
}) => string | null | undefined | Promise<string | null | undefined>;

/** A class like the browser's own `WebSocket`. */
export type WebSocketClass = new (url: string, protocols: string[]) => object;

export type { WasmInput } from './globals.js';

/** The options of a client; all times in milliseconds. */
export interface ClientOptions {
  /** Connect at once: true. */
  autoConnect?: boolean | undefined;
  /** The user's token; a function is called for the first connection, before the token ends, and when it is refused. */
  token?: string | TokenProvider | undefined;
  /**
   * Where tokens for private and presence channels come from. Without it the server knows who may subscribe. A function is called
   * once per channel, for at most 100 channels at the same time.
   */
  auth?: AuthEndpoint | ((request: AuthRequest) => AuthResult | Promise<AuthResult>) | undefined;
  /** Full jitter between 0 and `min · 2ⁿ`, at most `max`: 500, 20 000; healthy after `resetAfter`: 5 000. */
  backoff?: { min?: number; max?: number; resetAfter?: number } | undefined;
  /** Until the server has greeted: 10 000. */
  handshakeTimeout?: number | undefined;
  /** Until a command is answered: 10 000. */
  ackTimeout?: number | undefined;
  /** Until a ping is answered: 10 000. */
  pongTimeout?: number | undefined;
  /** The same after a wake-up: 5 000. */
  probeTimeout?: number | undefined;
  /** What may wait for a connection: 128 commands, 1 MiB, each 30 000. */
  queue?: { max?: number; bytes?: number; ttl?: number } | undefined;
  /** How many channels the server may join this client to unasked: 1 000. */
  serverChannelsMax?: number | undefined;
  /** How long a channel without listeners stays subscribed: 1 000. */
  linger?: number | undefined;
  /** Whether online, offline, visibility and page cache events count: true. */
  lifecycle?: boolean | undefined;
  /** The class to use; Node 20 has none of its own, the one of the `ws` package will do. */
  WebSocket?: WebSocketClass | undefined;
  /** Told of everything, or `true` for the console. */
  debug?: boolean | ((event: DebugEvent) => void) | undefined;
}
