import type { ChannelHandle } from './channel.js';
import type { Connection } from './connection.js';
import { fromMachine, type RealtimeError } from './errors.js';
import type { Nodes } from './nodes.js';
import { type ErrorItems, Output, type Reply } from './seam.js';
import type { ChannelState, ConnectionState } from './types.js';

/** A message that may be a plain event, or one that was skipped. */
export interface Frame {
  type?: unknown;
  channel: string;
  event: string;
  data: unknown;
  offset?: number | null;
  tag?: string | null;
  epoch?: string | null;
  user_id?: string | null;
  event_id?: string | null;
}

/** Tells the connection and its channels what one machine says. */
export class Host {
  readonly #connection: Connection;
  readonly #nodes: Nodes;
  /** Names that the machine has said: those that are none, and those that mean something to it, are not among them. */
  readonly #events = new Set<string>();
  readonly #users = new Set<string>();
  /** Subscribed in this turn. */
  #fresh: ChannelHandle[] = [];

  constructor(connection: Connection, nodes: Nodes) {
    this.#connection = connection;
    this.#nodes = nodes;
  }

  /** The channel of a message about which the machine need only be asked whether it is the next. */
  plain(frame: Frame | null): ChannelHandle | undefined {
    const channel = this.#connection.activeChannels.get(frame?.channel as string);
    if (channel === undefined || frame === null || channel.slot < 0) {
      return undefined;
    }
    const { type, offset, tag, epoch, user_id, event_id } = frame;
    const hasOffset = typeof offset === 'number' && offset >= 0;
    const hasTag = typeof tag === 'string' && tag !== '';
    if (epoch !== undefined && epoch !== channel.tracker.epoch) {
      return undefined;
    }
    if (type === 'skipped') {
      return hasOffset && hasTag ? channel : undefined;
    }
    const isPlain =
      type === 'event' &&
      frame.data !== undefined &&
      this.#events.has(frame.event) &&
      (hasOffset || offset === undefined) &&
      (hasTag || tag === undefined) &&
      (user_id === undefined || this.#users.has(user_id as string)) &&
      (event_id === undefined || typeof event_id === 'string');
    return isPlain ? channel : undefined;
  }

  /** Hands out a message that the machine has followed. */
  followed(channel: ChannelHandle, { type, event, data, offset, tag, user_id, event_id }: Frame): void {
    const { tracker } = channel;
    if (offset !== undefined) {
      tracker.move(tracker.epoch, offset as number, tag ?? '0');
    }
    if (type === 'event') {
      receive(channel, event, data, user_id, event_id, false, offset as number | undefined);
    }
  }

  done(request: number, error: ErrorItems, reply: Reply): void {
    this.#connection.requests.done(request, fromMachine(error, 'publish-rejected'), reply);
  }

  /** Nothing is left to be told: where a subscription begins is known now. */
  settled(): void {
    for (const channel of this.#fresh.splice(0)) {
      const position = channel.state === 'subscribed' ? this.#connection.position(channel.name) : undefined;
      if (position !== undefined) {
        channel.tracker.move(position.epoch, position.offset, position.tag);
      }
    }
  }

  /** `setBack` is how far the machine's time is ahead of the clock. */
  hear(output: Output, [name, ...values]: any[], setBack: number): void {
    const connection = this.#connection;
    if (output === Output.Status) {
      this.#status(name, values, setBack);
    } else if (output === Output.Channel) {
      this.#channel(name, values as [ChannelState]);
    } else if (output === Output.Gap) {
      connection.missed({ channel: name, kind: 'gap', from: values[0], to: values[1], reason: values[2] });
    } else if (output === Output.Error) {
      connection.complain(fromMachine([name, ...values] as unknown as ErrorItems) as RealtimeError);
    } else {
      const channel = connection.activeChannels.get(name);
      if (channel !== undefined) {
        this.#told(output, channel, values);
      }
    }
  }

  #told(output: Output, channel: ChannelHandle, values: any[]): void {
    const { presence, tracker } = channel;
    const at = (node: number) => this.#nodes.at(node);
    if (output === Output.Message) {
      const [event, data, user, id, recovered, slot, epoch, offset, tag] = values;
      channel.slot = slot ?? -1;
      remember(this.#events, event);
      remember(this.#users, user);
      if (offset !== undefined) {
        tracker.move(epoch, offset, tag);
      }
      receive(channel, event, at(data), user, id, recovered, offset);
    } else if (output === Output.Members) {
      const [count, ...items] = values;
      presence.sync(items, at, count);
    } else if (output === Output.Joined) {
      presence.joined(values[0], at(values[1]));
    } else if (output === Output.Left) {
      presence.left(values[0], values[1]);
    } else {
      const [reason, epoch, offset, tag] = values;
      tracker.move(epoch, offset, tag);
      this.#connection.missed({ channel: channel.name, kind: 'reset', from: null, to: null, reason });
    }
  }

  #status(state: ConnectionState, values: any[], setBack: number): void {
    const connection = this.#connection;
    const [attempt, resumed, socketId, userId, retryAt, code, reason, ...error] = values;
    const isBack = connection.status.state === 'reconnecting';
    connection.tell({
      state: isBack && state === 'connecting' ? 'reconnecting' : state,
      socketId,
      userId,
      attempt,
      retryAt: retryAt === null ? null : retryAt - setBack,
      resumed: resumed || (isBack && state === 'connected'),
      error: fromMachine(error as ErrorItems),
      code,
      reason,
    });
  }

  #channel(name: string, [state, ...items]: [ChannelState, ...any[]]): void {
    const connection = this.#connection;
    const isOver = state === 'closed' || state === 'failed';
    const channel = connection.activeChannels.get(name) ?? (isOver ? undefined : connection.adopt(name));
    if (channel === undefined) {
      return;
    }
    const error = fromMachine(items as ErrorItems, 'subscribe-rejected', name);
    connection.debug('channel', { name, state, error });
    if (state === 'subscribed') {
      channel.resumed();
      this.#fresh.push(channel);
    }
    channel.become(state, error);
    if (state === 'closed') {
      connection.release(channel);
    }
    if (error !== null) {
      connection.complain(error);
    }
  }
}

function receive(
  channel: ChannelHandle,
  event: string,
  data: unknown,
  user: string | null | undefined,
  id: string | null | undefined,
  recovered: boolean,
  offset: number | undefined,
): void {
  channel.receive(data, {
    channel: channel.name,
    event,
    id: id ?? undefined,
    offset,
    epoch: offset === undefined ? undefined : channel.tracker.epoch,
    recovered,
    from: user == null ? undefined : { id: user },
  });
}

/** Few names come again and again; where they do not, there is no use in keeping them. */
function remember(names: Set<string>, name: string | null): void {
  if (name !== null) {
    if (names.size >= NAMES_MAX) {
      names.clear();
    }
    names.add(name);
  }
}

const NAMES_MAX = 1000;
