import type { Connection } from './connection.js';
import { type Frame, Host } from './host.js';
import { report } from './listeners.js';
import { personal } from './names.js';
import { machineOptions, webSocketClass } from './options.js';
import { watchPage } from './page.js';
import { CredentialRequests } from './credentials.js';
import { read } from './reader.js';
import type { Question } from './requests.js';
import type { Machine, MachineClass, Message, Position, Seam } from './seam.js';
import { Asked, AUTH_REASONS, Command, Goodbye, GOODBYES, Input, Output, TOKEN_REASONS } from './table.js';
import { startTimer } from './timer.js';
import { positionOf, type Values } from './values.js';
import { byteLength, fields, frame } from './writer.js';

/**
 * The loop around one machine: one input in, outputs acted upon until there are none, one timer armed.
 *
 * What is acted upon may call back in. Such a call hands its input to the machine and returns; the loop that is already running
 * finds what came of it.
 */
export class Driver {
  readonly #connection: Connection;
  readonly #url: string;
  readonly #values: Values;
  readonly #host: Host;
  readonly #credentials: CredentialRequests;
  readonly #machine: Machine;
  readonly #leavePage: (() => void) | undefined;
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Infinity;
  #now = 0;
  /** How far the clock has been set back since the start. */
  #setBack = 0;
  #isBusy = false;
  /** There is something to act upon, once this turn is over. */
  #hasMore = false;
  #isClosed = false;
  /** The numbers that go in, and those that come out. */
  #in: readonly number[] = [];
  #at = 0;
  #out: number[] = [];
  /** The message that is being taken in. */
  #message: Message = {};
  /** The id of the connection, once it is greeted. */
  #socketId: string | undefined;
  /** The largest frame that the server takes, where it says so. */
  #frameBytes = Infinity;
  /** Messages of a socket that speaks while handlers run; they go when it goes. */
  readonly #later: unknown[] = [];

  constructor(connection: Connection, url: string, token: string | null, instantiate: (seam: Seam) => MachineClass) {
    const { options } = connection;
    this.#connection = connection;
    this.#url = url;
    this.#values = connection.values;
    this.#host = new Host(connection);
    this.#credentials = new CredentialRequests(options, url, this.#values, (...input) => this.tell(...input));
    const Machine = instantiate({
      // What is missing at the end is no number.
      take: () => this.#in[this.#at++] as number,
      put: (number) => this.#out.push(number),
    });
    this.#in = machineOptions(options);
    this.#machine = new Machine(Math.random() * 2 ** 32, Math.random() * 2 ** 32);
    if (options.lifecycle !== false) {
      this.#leavePage = watchPage((input) => this.tell(input));
    }
    if (token !== null) {
      this.tell(Input.SetToken, this.#values.put(token));
    }
  }

  /** Whether a handler runs, or something else is told. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Hands one input to the machine and acts upon what comes of it. */
  tell(input: Input, ...numbers: readonly number[]): void {
    if (!this.#isClosed) {
      this.#in = [input, ...numbers];
      this.#at = 0;
      this.#machine.input(this.#time());
      this.#drain();
    }
  }

  /** Asks the server, under a number of the caller's; again where it was sent for a user before. */
  ask(number: number, { type, channel, body, isRepeatable, info }: Question, sentFor: string | null | undefined): void {
    const bytes = byteLength(frame({ type }, body));
    const kind = info !== undefined ? Asked.Update : isRepeatable ? Asked.Repeatable : Asked.Plain;
    const value = isRepeatable ? sentFor && personal(sentFor) : info;
    this.tell(Input.Ask, number, this.#values.put(channel), bytes, kind, this.#values.put(value));
  }

  position(channel: string): Position | undefined {
    this.#out = [];
    this.#machine.position(this.#values.put(channel));
    return positionOf(this.#out);
  }

  /** Closes the socket, clears the timer, forgets every question, stops listening to the page. Nothing more is said. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#leavePage?.();
    this.#credentials.close();
    this.#close(Goodbye.Normal);
  }

  #drain(): void {
    if (this.#isBusy) {
      this.#hasMore = true;
      return;
    }
    this.#isBusy = true;
    while (!this.#isClosed && this.#poll()) {
      try {
        this.#act(this.#out);
      } catch (error) {
        report(error);
      }
    }
    this.#isBusy = false;
    this.#hasMore = false;
    if (!this.#isClosed) {
      this.#values.sweep(() => this.#held());
      this.#host.settled();
      this.#arm();
      while (this.#later.length > 0) {
        this.#hear(this.#later.shift());
      }
    }
  }

  #poll(): number {
    this.#out = [];
    return this.#machine.poll();
  }

  #held(): number[] {
    this.#out = [];
    this.#machine.held();
    return this.#out;
  }

  #act([output, ...items]: number[]): void {
    const [first, second] = items as [number, number];
    const value = this.#values.at(first);
    if (output === Output.Send) {
      this.#command(items);
    } else if (output === Output.Open) {
      this.#open();
    } else if (output === Output.Close) {
      this.#close(first);
    } else if (output === Output.NeedToken) {
      this.#credentials.askForToken(TOKEN_REASONS[first]!);
    } else if (output === Output.NeedChannelAuth) {
      this.#credentials.authorize(value, this.#socketId as string, AUTH_REASONS[second]!);
    } else if (output === Output.CancelChannelAuth) {
      this.#credentials.cancel(value);
    } else {
      this.#host.hear(output as Output, items, this.#message, this.#socketId, this.#setBack);
    }
  }

  #command([number, command, ...items]: number[]): void {
    const values = this.#values;
    const id = number! < 0 ? undefined : number;
    const about = (type: string, more?: object, ...rest: (object | string)[]) => this.#send(frame({ type, id, ...more }, ...rest));
    const [first] = items;
    const channel = values.at(first);
    if (command === Command.Asked) {
      const question = this.#connection.requests.sending(first!, this.#connection.status.userId ?? null);
      question && about(question.type, undefined, question.body);
    } else if (command === Command.Authenticate) {
      about('authenticate', { token: channel });
    } else if (command === Command.Subscribe) {
      this.#subscribe(id, subscriptions(items, values));
    } else {
      about(command === Command.Ping ? 'ping' : command === Command.Presence ? 'presence' : 'unsubscribe', { channel });
    }
  }

  /** One channel by itself, several in a list; in two halves where the frame would be larger than the server takes. */
  #subscribe(id: number | undefined, list: string[]): void {
    const type = 'subscribe';
    const isList = list.length > 1;
    const text = isList ? frame({ type, id }, `"channels":[${list.map((item) => frame(item))}]`) : frame({ type, id }, list[0]);
    if (isList && byteLength(text) > this.#frameBytes) {
      const half = list.length >> 1;
      this.#subscribe(id, list.slice(0, half));
      this.#subscribe(id, list.slice(half));
    } else {
      this.#send(text);
    }
  }

  /** Opens a socket in place of the one there was. */
  #open(): void {
    this.#close(Goodbye.Normal);
    this.#socketId = undefined;
    const { options } = this.#connection;
    let socket: WebSocket;
    try {
      socket = new (webSocketClass(options))(this.#url, ['fanfare.v1.batch', 'fanfare.v1']) as WebSocket;
    } catch (error) {
      this.tell(Input.Closed, ABNORMAL, this.#values.put(`${(error as Error | null)?.message ?? ''}`));
      return;
    }
    this.#socket = socket;
    socket.onopen = () => socket === this.#socket && this.tell(Input.Opened);
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(socket, data);
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) {
        this.#forget();
        this.tell(Input.Closed, code, this.#values.put(reason ?? ''));
      }
    };
    // A close event follows every error. Without a listener some classes of Node throw instead.
    socket.onerror = () => {};
  }

  #send(text: string): void {
    if (this.#connection.options.debug) {
      this.#connection.debug('frame-out', text.replace(TOKENS, '"$1":"..."'));
    }
    try {
      this.#socket?.send(text);
    } catch {
      // It is not open; its close event follows and says the same.
    }
  }

  #forget(): WebSocket | null {
    const socket = this.#socket;
    this.#socket = null;
    this.#later.length = 0;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
    }
    return socket;
  }

  #close(goodbye: Goodbye): void {
    const socket = this.#forget();
    const [code, reason] = GOODBYES[goodbye];
    try {
      socket?.close(code, reason);
    } catch {
      socket?.close();
    }
  }

  /** Passes on what one frame says, for as long as the socket counts: the first message may have been the last that is wanted. */
  #receive(socket: WebSocket, data: string): void {
    if (this.#connection.options.debug) {
      this.#connection.debug('frame-in', data);
    }
    let frame: unknown;
    try {
      frame = JSON.parse(data);
    } catch {
      this.tell(Input.Unreadable);
      return;
    }
    if (!Array.isArray(frame)) {
      this.#hear(frame);
      return;
    }
    for (const message of frame) {
      if (socket === this.#socket) {
        this.#hear(message);
      }
    }
  }

  #hear(message: unknown): void {
    if (this.#isBusy) {
      this.#later.push(message);
      this.#hasMore = true;
    } else if (!this.#follow(message as Frame)) {
      const numbers = read(message, this.#values);
      if (numbers.length > 0) {
        this.#message = message as Message;
        if (numbers[0] === Input.Connected) {
          this.#socketId ??= this.#message['socket_id'];
          this.#frameBytes = Math.min(this.#message['limits']?.message_bytes_max ?? LIST_BYTES_MAX, LIST_BYTES_MAX);
        }
        this.tell(...(numbers as [Input]));
      }
    }
  }

  /** The short way of nearly all messages: numbers in, a yes out. Whether this was one of them. */
  #follow(frame: Frame): boolean {
    const host = this.#host;
    const channel = host.plain(frame);
    if (channel === undefined) {
      return false;
    }
    const { offset } = frame;
    const tag = frame.tag ?? '0';
    let high = 0;
    let low = 0;
    for (let at = 0; at < tag.length; at += 1) {
      const code = tag.charCodeAt(at);
      const digit = code - (code < 97 ? 48 : 87);
      if (digit < 0 || digit > (code < 97 ? 9 : 15) || at > 15) {
        return false;
      }
      high = (high << 4) | (low >>> 28);
      low = (low << 4) | digit;
    }
    if (this.#machine.follow(channel.number, offset ?? -1, high, low, this.#time()) === 0) {
      return false;
    }
    this.#isBusy = true;
    host.followed(channel, frame);
    this.#isBusy = false;
    if (this.#hasMore) {
      this.#drain();
    }
    return true;
  }

  /** Sees to it that the time is told when it has come, or before. A timer that is early enough is left as it is. */
  #arm(): void {
    const due = this.#machine.timeout();
    if (due >= 0 && this.#due <= due) {
      return;
    }
    clearTimeout(this.#timer);
    this.#due = Infinity;
    if (due >= 0) {
      this.#due = due;
      this.#timer = startTimer(() => this.#ring(), Math.max(due - this.#time(), 0));
    }
  }

  #ring(): void {
    this.#due = Infinity;
    const due = this.#machine.timeout();
    if (due >= 0 && due <= this.#time()) {
      this.tell(Input.TimedOut);
    } else {
      this.#arm();
    }
  }

  /** `Date.now()`, except that a clock that is set back does not take the client's time with it. */
  #time(): number {
    const date = Date.now();
    if (date + this.#setBack < this.#now) {
      this.#setBack = this.#now - date;
    }
    this.#now = date + this.#setBack;
    return this.#now;
  }
}

/** The fields of every channel in a {@link Command.Subscribe}. */
function subscriptions(items: number[], values: Values): string[] {
  const list: string[] = [];
  for (let at = 0; at < items.length; ) {
    const [channel, auth, data, hint, info, rewind, ...since] = items.slice(at, at + FIELDS + POSITION) as [number, number, number, number, number, number];
    const position = positionOf(since);
    const told = { channel: values.at(channel), auth: values.at(auth), channel_data: values.at(data) };
    const json = fields(hint === 0 ? '' : `"data":${values.at(hint)}`, info === 0 ? '' : `"info":${values.at(info)}`);
    list.push(fields(told, json, { since: position, rewind: rewind < 0 ? undefined : rewind }));
    at += FIELDS + (position === undefined ? NO_POSITION : POSITION);
  }
  return list;
}

/** The tokens of a frame: of the connection, and of channels. */
const TOKENS = /"(token|auth)":"(\\.|[^"\\])*"/g;

/** How many numbers a channel of a list has before its position, and how many that one has, or none. */
const FIELDS = 6;
const POSITION = 5;
const NO_POSITION = 1;

/** RFC 6455, section 7.4.1: the connection was lost, or could not be made. */
const ABNORMAL = 1006;

/** 16 KiB: what a server takes before it has seen credentials, which may be while they are on their way. */
const LIST_BYTES_MAX = 16 << 10;
