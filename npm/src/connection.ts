import { ChannelHandle } from './channel.js';
import { Driver } from './driver.js';
import { closed, RealtimeError } from './errors.js';
import { MachineSupervisor, type Instantiate } from './supervisor.js';
import { type Handler, Listeners, report } from './listeners.js';
import { socketUrl, webSocketClass } from './options.js';
import { type Question, type Reply, Requests } from './requests.js';
import type { Position } from './seam.js';
import { Input } from './table.js';
import type { ClientEvents, ClientOptions, ConnectionStatus, DebugEvent, Gap } from './types.js';
import { Values } from './values.js';

/** What an entry of the package brings along. */
export interface Runtime {
  load(): Promise<WebAssembly.Module>;
  instantiate: Instantiate;
}

/** What is wanted of the machine, kept outside of it, and what it last said. */
export class Connection {
  readonly linger: number;
  readonly options: ClientOptions;
  /** Numbered once for all machines: what one knows as a number is nothing else to the next. */
  readonly values = new Values();
  readonly #events = new Listeners<keyof ClientEvents | 'change'>();
  /** Every handle that is still referenced, weakly; those that are wanted are held by `#active`. */
  readonly #handles = new Map<string, { deref(): ChannelHandle | undefined }>();
  readonly #dropped: { register(handle: ChannelHandle, name: string): void };
  readonly #active = new Map<string, ChannelHandle>();
  readonly #requests: Requests;
  readonly #supervisor: MachineSupervisor;
  readonly #keyPrefix = randomText();
  #keys = 0;
  #status: ConnectionStatus = IDLE;
  #token: string | null;
  #isWanted = false;
  #isClosed = false;

  constructor(url: string | URL, options: ClientOptions, runtime: Runtime) {
    this.options = options;
    this.linger = options.linger ?? LINGER;
    this.#token = typeof options.token === 'string' ? options.token : null;
    this.#requests = new Requests(options.queue?.max ?? QUEUE_MAX);
    this.#dropped = registry((name) => {
      if (this.#handles.get(name)?.deref() === undefined) {
        this.#handles.delete(name);
      }
    });
    this.#supervisor = new MachineSupervisor({
      ...runtime,
      create: (instantiate) => new Driver(this, socketUrl(url), this.#token, instantiate),
      began: (driver, isNew) => this.#began(driver, isNew),
      lost: (cause) => this.#lost(cause),
      failed: (error) => this.#failed(error),
    });
  }

  get status(): ConnectionStatus {
    return this.#status;
  }

  /** Why there is no connection and none will come, unless it is asked for again. */
  get failure(): RealtimeError | null {
    return this.#status.state === 'failed' ? this.#status.error : null;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get activeChannels(): ReadonlyMap<string, ChannelHandle> {
    return this.#active;
  }

  get requests(): Requests {
    return this.#requests;
  }

  /** Asks for a connection, or for another attempt at once. */
  connect(): void {
    this.checkOpen();
    this.#isWanted = true;
    const { driver } = this.#supervisor;
    if (driver !== null) {
      this.#connectWith(driver);
      return;
    }
    if (this.#status.state !== 'reconnecting') {
      this.tell({ state: 'connecting', error: null, code: null, reason: null });
    }
    this.#supervisor.start();
  }

  disconnect(): void {
    this.#isWanted = false;
    const { driver } = this.#supervisor;
    if (driver !== null) {
      driver.tell(Input.Disconnect);
    } else if (this.#status.state !== 'idle') {
      this.tell({ ...GONE, state: 'disconnected' });
    }
  }

  reconnectNow(): void {
    const { driver } = this.#supervisor;
    if (driver !== null && this.#isWanted && this.#status.state !== 'failed') {
      driver.tell(this.#status.state === 'connected' ? Input.Wake : Input.Connect);
    } else {
      this.connect();
    }
  }

  setToken(token: string | null): void {
    this.checkOpen();
    this.#token = token;
    this.#supervisor.driver?.tell(Input.SetToken, this.values.put(token));
  }

  close(): void {
    if (this.#isClosed) {
      return;
    }
    this.disconnect();
    this.#isClosed = true;
    const error = closed();
    for (const channel of [...this.#active.values()]) {
      channel.end(error);
    }
    this.#requests.use(null);
    this.#requests.fail(error);
    this.#supervisor.close();
    this.#events.clear();
  }

  checkOpen(): void {
    if (this.#isClosed) {
      throw closed();
    }
  }

  on(event: keyof ClientEvents | 'change', handler: Handler): () => void {
    this.checkOpen();
    return this.#events.add(event, handler);
  }

  emit<Event extends keyof ClientEvents>(event: Event, ...values: ClientEvents[Event]): void {
    this.#events.emit(event, ...values);
  }

  channel(name: string): ChannelHandle {
    this.checkOpen();
    const known = this.#handles.get(name)?.deref();
    if (known !== undefined) {
      return known;
    }
    const handle = new ChannelHandle(name, this);
    this.#handles.set(name, hold(handle));
    this.#dropped.register(handle, name);
    return handle;
  }

  /** The channel has its first user. */
  activate(channel: ChannelHandle): void {
    this.#active.set(channel.name, channel);
    channel.become(this.#status.state === 'connected' ? 'subscribing' : 'suspended', null);
    // A handler that was told of it may have left it again.
    if (this.#active.get(channel.name) === channel) {
      this.#subscribe(channel);
    }
  }

  /** The channel has no user any more. */
  deactivate(channel: ChannelHandle): void {
    if (this.#active.delete(channel.name)) {
      // Where the name is none, the channel has been told.
      this.#supervisor.driver?.tell(Input.Unsubscribe, this.values.put(channel.name));
    }
  }

  /** The channel's list of members lacks some that there is room for. */
  membersIncomplete(channel: ChannelHandle): void {
    this.#supervisor.driver?.tell(Input.MembersIncomplete, this.values.put(channel.name), channel.presence.count);
  }

  /** The server has ended the subscription. */
  release(channel: ChannelHandle): void {
    channel.isJoinedByServer = false;
    if (!channel.isUsed) {
      this.#active.delete(channel.name);
    }
  }

  /** Messages of a channel are missing. */
  missed(gap: Gap): void {
    this.#active.get(gap.channel)?.missed(gap);
    this.emit('gap', gap);
  }

  /** The server has joined this connection to the channel unasked. */
  adopt(name: string): ChannelHandle {
    const channel = this.channel(name);
    channel.isJoinedByServer = true;
    this.#active.set(name, channel);
    return channel;
  }

  /** Where the machine is with a channel, unless it is ahead of what it has handed out so far. */
  position(channel: string): Position | undefined {
    const { driver } = this.#supervisor;
    return driver?.isBusy || !this.#active.get(channel)?.isWanted ? undefined : driver?.position(channel);
  }

  async ask(question: Question, signal: AbortSignal | undefined): Promise<Reply> {
    this.checkOpen();
    const reply = this.#requests.ask(question, signal);
    this.#supervisor.start();
    return reply;
  }

  /** A key that no other publish of any client has, so that a repetition does no harm. */
  makeKey(): string {
    this.#keys += 1;
    return `${this.#keyPrefix}-${this.#keys.toString(36)}`;
  }

  /** Changes the status and says so. */
  tell(change: Partial<ConnectionStatus>): void {
    const previous = this.#status;
    const status = { ...previous, ...change, previous: previous.state };
    const isSame = STATUS_FIELDS.every((field) => status[field] === previous[field]);
    if (isSame && status.error === null) {
      return;
    }
    this.#status = status;
    this.debug('state', status);
    this.#events.emit('status', status);
    this.#events.emit('change');
    if (status.state === 'failed' && status.error !== null) {
      for (const channel of [...this.#active.values()]) {
        channel.fail(status.error);
      }
    }
    if (status.state === 'connected' && previous.socketId !== status.socketId && status.socketId !== null) {
      this.emit('connected', { socketId: status.socketId, resumed: status.resumed });
    }
    if (previous.state === 'connected' && status.state !== 'connected') {
      const willReconnect = status.state === 'reconnecting' || status.state === 'offline';
      this.emit('disconnected', { code: status.code, reason: status.reason, willReconnect });
    }
    if (status.error !== null) {
      this.complain(status.error);
    }
  }

  /** Something went wrong. */
  complain(error: RealtimeError): void {
    this.debug('error', error);
    this.emit('error', error);
  }

  debug(kind: DebugEvent['kind'], detail: unknown): void {
    const { debug } = this.options;
    if (!debug) {
      return;
    }
    try {
      const event = { time: Date.now(), kind, detail };
      typeof debug === 'function' ? debug(event) : console.debug('fanfare', kind, detail);
    } catch (error) {
      report(error);
    }
  }

  #began(driver: Driver, isNew: boolean): void {
    if (!isNew) {
      this.debug('restart', null);
    }
    for (const channel of [...this.#active.values()]) {
      if (channel.isWanted) {
        this.#subscribe(channel);
      }
    }
    if (this.#isWanted) {
      this.#connectWith(driver);
    }
    if (driver === this.#supervisor.driver) {
      this.#requests.use(driver);
    }
  }

  #connectWith(driver: Driver): void {
    try {
      webSocketClass(this.options);
    } catch (error) {
      this.#failed(error as RealtimeError);
      return;
    }
    driver.tell(Input.Connect);
  }

  #subscribe(channel: ChannelHandle): void {
    try {
      this.#supervisor.driver?.tell(Input.Subscribe, ...channel.subscription(this.values));
    } catch (thrown) {
      const { message } = thrown as Error;
      const error = new RealtimeError('bad-argument', message, { cause: thrown, channel: channel.name });
      channel.become('failed', error);
      this.complain(error);
    }
  }

  #lost(cause: unknown): void {
    this.#requests.use(null);
    this.complain(new RealtimeError('internal', 'the client failed and starts again', { cause, retryable: true }));
    for (const channel of [...this.#active.values()]) {
      channel.interrupt();
    }
    if (this.#isWanted) {
      const state = this.#status.state === 'connected' ? 'reconnecting' : this.#status.state;
      this.tell({ ...GONE, state });
    }
  }

  #failed(error: RealtimeError): void {
    this.#requests.fail(error);
    const isHeard = (['error', 'status', 'change'] as const).some((event) => this.#events.has(event));
    this.tell({ ...GONE, state: 'failed', error });
    if (!isHeard) {
      console.error(error);
    }
  }
}

/** How long a channel without listeners stays subscribed: long enough for a page to be rendered again. */
const LINGER = 1000;

/** How many requests wait while there is no machine that counts them. */
const QUEUE_MAX = 128;

export const IDLE: ConnectionStatus = {
  state: 'idle',
  previous: 'idle',
  socketId: null,
  userId: null,
  attempt: 0,
  retryAt: null,
  resumed: false,
  error: null,
  code: null,
  reason: null,
};

/** What is no longer so without a connection. */
const GONE = { socketId: null, retryAt: null, error: null, code: null, reason: null };

/** What makes a status differ from the one before. */
const STATUS_FIELDS = ['state', 'socketId', 'userId', 'attempt', 'retryAt', 'resumed', 'code', 'reason'] as const;

function randomText(): string {
  return Math.random().toString(36).slice(2) + Date.now().toString(36);
}

function hold(handle: ChannelHandle): { deref(): ChannelHandle | undefined } {
  return typeof WeakRef === 'function' ? new WeakRef(handle) : { deref: () => handle };
}

function registry(dropped: (name: string) => void): { register(handle: ChannelHandle, name: string): void } {
  return typeof FinalizationRegistry === 'function' ? new FinalizationRegistry(dropped) : { register: () => {} };
}
