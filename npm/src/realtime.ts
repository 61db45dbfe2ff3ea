import { publication } from './channel.js';
import { Connection, IDLE, type Runtime } from './connection.js';
import { aborted, closed, RealtimeError } from './errors.js';
import { nothingToEnd, unsubscriber, whenAborted } from './listeners.js';
import type {
  AbortOptions,
  Channel,
  ClientEvents,
  ClientOptions,
  ConnectionState,
  ConnectionStatus,
  DefaultChannels,
  DefinitionOf,
  EventsOf,
  Key,
  Meta,
  PublishOptions,
  SubscribeOptions,
  Unsubscribe,
} from './types.js';

/** One connection to a Fanfare server, with all its channels. Each entry of the package derives its `Realtime` from it. */
export class RealtimeClient<Channels = DefaultChannels> implements Disposable {
  readonly #connection: Connection;

  /**
   * Nothing happens before the first `connect()`, which is made here unless `autoConnect` is false.
   *
   * @internal
   */
  constructor(url: string | URL, options: ClientOptions, runtime: Runtime) {
    this.#connection = new Connection(url, options, runtime);
    if (options.autoConnect !== false) {
      this.#connection.connect();
    }
  }

  /** The connection's state and how it came about; a new object for each change. */
  get status(): ConnectionStatus {
    return this.#connection.status;
  }

  get state(): ConnectionState {
    return this.status.state;
  }

  /** The id of the connection, while there is one. */
  get socketId(): string | null {
    return this.status.socketId;
  }

  /** The user that the connection belongs to, as the server says. */
  get userId(): string | null {
    return this.status.userId;
  }

  /** The channel of this name, the same object for everybody. Listening to it is what subscribes. */
  channel<Name extends Key<Channels> | (string & {})>(name: Name): Channel<DefinitionOf<Channels, Name>, Name> {
    return this.#connection.channel(name) as unknown as Channel<DefinitionOf<Channels, Name>, Name>;
  }

  /** Calls `handler` for each message of an event; subscribes to the channel where it is not subscribed yet. */
  subscribe<
    Name extends Key<Channels> | (string & {}),
    Event extends Key<EventsOf<DefinitionOf<Channels, Name>>>,
  >(
    channel: Name,
    event: Event,
    handler: (data: EventsOf<DefinitionOf<Channels, Name>>[Event], meta: Meta) => void,
    options: SubscribeOptions = {},
  ): Unsubscribe {
    return this.#connection.channel(channel).on(event, handler, options);
  }

  /**
   * Asks for a connection, or at once for another attempt. Resolves when it is there; `status` says the same.
   *
   * An abort ends the waiting, not the connection.
   */
  connect(options: AbortOptions = {}): Promise<void> {
    const { signal } = options;
    const connected = new Promise<void>((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted(signal));
        return;
      }
      const settle = (act: () => void) => {
        detach();
        off();
        act();
      };
      const detach = whenAborted(signal, () => settle(() => reject(aborted(signal as AbortSignal))));
      let isCurrent = false;
      const look = () => {
        const { state, error } = this.status;
        if (isCurrent && state === 'connected') {
          settle(resolve);
        } else if (isCurrent && (state === 'failed' || state === 'disconnected')) {
          settle(() => reject(error ?? closed()));
        }
      };
      const off = this.#connection.on('change', look);
      this.#connection.connect();
      // In a handler the state is that of before until the handler returns: perhaps of a connection that has been given up.
      queueMicrotask(() => {
        isCurrent = true;
        look();
      });
    });
    // A caller that does not wait sees it in `status`.
    connected.catch(() => {});
    return connected;
  }

  /** Says goodbye. Channels stay wanted and come back with the next `connect()`. */
  disconnect(): void {
    this.#connection.disconnect();
  }

  /** Makes the next attempt now; asks an open connection for a sign of life. */
  reconnectNow(): void {
    this.#connection.reconnectNow();
  }

  /** Logs in with a token, or out with `null`. Another user than before, and none, get a new connection; a token function is asked then. */
  setToken(token: string | null): void {
    this.#connection.setToken(token);
  }

  /**
   * Hands an event to the server's event bus; resolves when the bus has it. No server has one yet.
   *
   * @internal
   */
  async emit(event: string, data: unknown, options: PublishOptions = {}): Promise<{ eventId: string }> {
    const body = publication(this.#connection, event, data, options);
    const { event_id } = await this.#connection.ask({ type: 'emit', body, isRepeatable: true }, options.signal);
    if (event_id == null) {
      throw new RealtimeError('protocol', 'the server did not say which event it was');
    }
    return { eventId: event_id };
  }

  /** Listens to what concerns the connection as a whole. */
  on<Event extends keyof ClientEvents>(
    event: Event,
    handler: (...values: ClientEvents[Event]) => void,
    options: AbortOptions = {},
  ): Unsubscribe {
    if (options.signal?.aborted) {
      return nothingToEnd();
    }
    return unsubscriber(this.#connection.on(event, handler), options.signal);
  }

  /** For `useSyncExternalStore`: called after each change of `status`. */
  readonly subscribeStatus = (onChange: () => void): (() => void) => this.#connection.on('change', onChange);

  /** For `useSyncExternalStore`: `status`. */
  readonly getStatus = (): ConnectionStatus => this.status;

  /** For `useSyncExternalStore`: what `status` is on a server, and while a page is hydrated. */
  readonly getServerStatus = (): ConnectionStatus => IDLE;

  /** Ends everything for good: the connection, all channels, and what waits for an answer. */
  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
