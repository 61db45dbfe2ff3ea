import type { ChannelHandle } from './channel.js';
import type { Connection } from './connection.js';
import { fromMachine, type RealtimeError } from './errors.js';
import { owner } from './names.js';
import type { Message } from './seam.js';
import { CHANNEL_STATES, CONNECTION_STATES, GAP_REASONS, Output } from './table.js';
import type { ChannelState, ConnectionState } from './types.js';
import { positionOf } from './values.js';

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
  /** Names that have been handed out: those that are none, and those that mean something to the machine, are not among them. */
  readonly #events = new Set<string>();
  readonly #users = new Set<string>();
  /** Subscribed in this turn. */
  #fresh: ChannelHandle[] = [];

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** The channel of a message about which the machine need only be asked whether it is the next. */
  plain(frame: Frame | null): ChannelHandle | undefined {
    const channel = this.#connection.activeChannels.get(frame?.channel as string);
    if (channel === undefined || frame === null) {
      return undefined;
    }
    const { type, offset, tag, epoch, user_id, event_id } = frame;
    const hasOffset = Number.isSafeInteger(offset) && (offset as number) >= 0;
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
      tracker.advance(offset as number, tag ?? '0');
    }
    if (type === 'event') {
      receive(channel, event, data, user_id, event_id, false, offset as number | undefined);
    }
  }

  /** Nothing is left to be told: where a subscription begins is known now. */
  settled(): void {
    for (const channel of this.#fresh.splice(0)) {
      const position = channel.state === 'subscribed' ? this.#connection.position(channel.name) : undefined;
      if (position !== undefined) {
        channel.tracker.move(position);
      }
    }
  }

  /** `message` is what is being taken in, `setBack` how far the machine's time is ahead of the clock. */
  hear(output: Output, items: number[], message: Message, socketId: string | undefined, setBack: number): void {
    const connection = this.#connection;
    const { values } = connection;
    const [first, ...rest] = items as [number];
    if (output === Output.Status) {
      this.#status(items, socketId, setBack);
    } else if (output === Output.Channel) {
      this.#channel(first, rest);
    } else if (output === Output.Done) {
      const { isRepeatable, channel } = connection.requests.asked(first) ?? {};
      const error = fromMachine(rest, values, isRepeatable ? 'publish-rejected' : 'rejected', channel);
      connection.requests.done(first, error, message);
    } else if (output === Output.Error) {
      connection.complain(fromMachine(items, values) as RealtimeError);
    } else if (output === Output.Gap) {
      const [from, to, reason, words] = rest as number[];
      const told = GAP_REASONS[reason!] ?? values.at(words);
      connection.missed({ channel: values.at(first), kind: 'gap', from: unlessNegative(from), to: unlessNegative(to), reason: told });
    } else {
      const channel = connection.activeChannels.get(values.at(first));
      if (channel !== undefined) {
        this.#told(output, channel, rest, message);
      }
    }
  }

  #told(output: Output, channel: ChannelHandle, [first, ...rest]: number[], message: Message): void {
    const { presence, tracker } = channel;
    const { values } = this.#connection;
    if (output === Output.Message) {
      const [recovered, ...items] = rest;
      const { event, data, user_id, event_id } = message['type'] === 'event' ? message : message['events'][first!];
      const position = positionOf(items);
      remember(this.#events, event);
      remember(this.#users, user_id);
      if (position !== undefined) {
        tracker.move(position);
      }
      receive(channel, event, data, user_id, event_id, recovered === 1, position?.offset);
    } else if (output === Output.Members) {
      const changes = first === undefined ? [] : [first, ...rest];
      presence.sync(
        message['presence'] ?? message,
        changes.map((number) => values.at(number)),
        message['user_id'],
      );
    } else if (output === Output.Change) {
      presence.change(values.at(first));
    } else {
      tracker.move(positionOf(rest));
      this.#connection.missed({ channel: channel.name, kind: 'reset', from: null, to: null, reason: values.at(first) });
    }
  }

  #status([number, attempt, resumed, retryAt, user, ...error]: number[], socketId: string | undefined, setBack: number): void {
    const connection = this.#connection;
    const state = CONNECTION_STATES[number!] as ConnectionState;
    const isBack = connection.status.state === 'reconnecting';
    const isConnected = state === 'connected';
    const told = fromMachine(error, connection.values);
    const isLost = told?.code === 'transport';
    connection.tell({
      state: isBack && state === 'connecting' ? 'reconnecting' : state,
      socketId: isConnected ? (socketId as string) : null,
      userId: owner(connection.values.at(user)),
      attempt: attempt as number,
      retryAt: retryAt! < 0 ? null : retryAt! - setBack,
      resumed: resumed === 1 || (isBack && isConnected),
      error: told,
      code: isLost ? (told.serverCode as number) : null,
      reason: isLost ? connection.values.at(error[2]) : null,
    });
  }

  #channel(number: number, [state, ...items]: number[]): void {
    const connection = this.#connection;
    const name: string = connection.values.at(number);
    const told = CHANNEL_STATES[state!] as ChannelState;
    const isOver = told === 'closed' || told === 'failed';
    const channel = connection.activeChannels.get(name) ?? (isOver ? undefined : connection.adopt(name));
    if (channel === undefined) {
      return;
    }
    channel.number = number;
    const error = fromMachine(items, connection.values, 'subscribe-rejected', name);
    connection.debug('channel', { name, state: told, error });
    if (told === 'subscribed') {
      channel.resumed();
      this.#fresh.push(channel);
    }
    channel.become(told, error);
    if (told === 'closed') {
      connection.release(channel);
    }
    if (error !== null) {
      connection.complain(error);
    }
  }
}

function unlessNegative(number: number | undefined): number | null {
  return number! < 0 ? null : (number as number);
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
    tag: offset === undefined ? undefined : channel.tracker.tag,
    recovered,
    from: user == null ? undefined : { id: user },
  });
}

/** Few names come again and again; where they do not, there is no use in options them. */
function remember(names: Set<string>, name: string | null | undefined): void {
  if (name != null) {
    if (names.size >= NAMES_MAX) {
      names.clear();
    }
    names.add(name);
  }
}

const NAMES_MAX = 1000;
