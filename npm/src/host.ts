import type { Connection } from './connection.js';
import { fromMachine } from './errors.js';
import { answers, webSocketClass } from './options.js';
import type {
  Host,
  MachineChannelState,
  MachineError,
  MachineMember,
  MachineReply,
  MachineStatus,
  Position,
} from './seam.js';

/** Hears what one machine says, for as long as it is the one that counts. */
export class MachineHost implements Host {
  declare readonly token?: Host['token'];
  declare readonly authorize?: Host['authorize'];
  declare readonly headers?: Host['headers'];
  readonly #connection: Connection;
  #socket: WebSocket | null = null;
  #isAbandoned = false;

  constructor(connection: Connection) {
    this.#connection = connection;
    Object.assign(this, answers(connection.options));
  }

  /** The machine is gone: whatever is left of it says nothing, and its socket is closed. */
  abandon(): void {
    this.#isAbandoned = true;
    try {
      this.#socket?.close();
    } catch {
      // A socket that can not be closed is closed.
    }
  }

  state(status: MachineStatus): void {
    if (this.#isAbandoned) {
      return;
    }
    const connection = this.#connection;
    const isReturning = connection.status.state === 'reconnecting' && status.state === 'connecting';
    const wasThere = connection.status.state === 'reconnecting' && status.state === 'connected';
    connection.tell({
      state: isReturning ? 'reconnecting' : status.state,
      socketId: status.socketId ?? null,
      userId: status.userId ?? null,
      attempt: status.attempt,
      retryAt: status.retryAt ?? null,
      resumed: status.resumed || wasThere,
      error: status.error === undefined ? null : fromMachine(status.error),
      code: status.code ?? null,
      reason: status.reason ?? null,
    });
  }

  channel(
    name: string,
    state: MachineChannelState,
    _previous: MachineChannelState,
    error: MachineError | undefined,
    _recovered: boolean,
  ): void {
    if (this.#isAbandoned) {
      return;
    }
    const connection = this.#connection;
    const isOver = state === 'closed' || state === 'failed';
    const channel = connection.activeChannels.get(name) ?? (isOver ? undefined : connection.adopt(name));
    if (channel === undefined) {
      return;
    }
    const known = error === undefined ? null : fromMachine(error);
    connection.debug('channel', { name, state, error: known });
    if (state === 'subscribed') {
      channel.resumed();
      this.#save(name);
    }
    channel.become(state, known);
    if (state === 'closed') {
      connection.release(channel);
    }
    if (known !== null) {
      connection.complain(known);
    }
  }

  message(
    name: string,
    event: string,
    data: unknown,
    offset: number | undefined,
    epoch: string | undefined,
    userId: string | undefined,
    eventId: string | undefined,
    recovered: boolean,
  ): void {
    const channel = this.#connection.activeChannels.get(name);
    if (channel === undefined || this.#isAbandoned || !channel.tracker.isNew(epoch, offset)) {
      return;
    }
    if (channel.tracker.isBehind()) {
      this.#save(name);
    }
    const from = userId === undefined ? undefined : { id: userId };
    channel.receive(data, { channel: name, event, id: eventId, offset, epoch, recovered, from });
  }

  members(name: string, members: MachineMember[], count: number): void {
    this.#find(name)?.presence.sync(members, count);
  }

  joined(name: string, id: string, info: unknown): void {
    this.#find(name)?.presence.joined(id, info);
  }

  left(name: string, id: string, reason: string | undefined): void {
    this.#find(name)?.presence.left(id, reason ?? null);
  }

  gap(name: string, from: number | undefined, to: number | undefined, reason: string): void {
    if (!this.#isAbandoned) {
      this.#connection.missed({ channel: name, kind: 'gap', from: from ?? null, to: to ?? null, reason });
    }
  }

  reset(name: string, position: Position, reason: string): void {
    const tracker = this.#find(name)?.tracker;
    tracker?.forget();
    tracker?.save(position);
    if (!this.#isAbandoned) {
      this.#connection.missed({ channel: name, kind: 'reset', from: null, to: null, reason });
    }
  }

  done(request: number, error: MachineError | undefined, reply: MachineReply | undefined): void {
    if (!this.#isAbandoned) {
      this.#connection.requests.done(request, error, reply);
    }
  }

  error(error: MachineError): void {
    if (!this.#isAbandoned) {
      this.#connection.complain(fromMachine(error));
    }
  }

  open(url: string, protocols: string[]): WebSocket {
    const Socket = webSocketClass(this.#connection.options);
    const socket = new Socket(url, protocols) as WebSocket;
    this.#socket = socket;
    if (this.#connection.options.debug) {
      this.#watch(socket);
    }
    return socket;
  }

  #find(name: string) {
    return this.#isAbandoned ? undefined : this.#connection.activeChannels.get(name);
  }

  /** Not now: the machine may be ahead of what it has handed out so far. */
  #save(name: string): void {
    const tracker = this.#connection.activeChannels.get(name)?.tracker;
    tracker?.save(tracker.position);
    queueMicrotask(() => {
      const channel = this.#find(name);
      if (channel?.state === 'subscribed') {
        channel.tracker.save(this.#connection.position(name));
      }
    });
  }

  #watch(socket: WebSocket): void {
    const send = socket.send.bind(socket);
    socket.send = (data) => {
      const isToken = typeof data === 'string' && data.startsWith('{"type":"authenticate"');
      this.#connection.debug('frame-out', isToken ? '{"type":"authenticate",...}' : data);
      send(data);
    };
    socket.addEventListener?.('message', ({ data }) => this.#connection.debug('frame-in', data));
  }
}
