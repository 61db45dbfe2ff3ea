import type { Connection } from './connection.js';
import { type Frame, Host } from './host.js';
import { report } from './listeners.js';
import { Nodes } from './nodes.js';
import { machineOptions, webSocketClass } from './options.js';
import { watchPage } from './page.js';
import { Questions } from './questions.js';
import { type ErrorItems, Input, Output, type Machine, type MachineClass, type Position, type PositionItems, type Reply } from './seam.js';

/**
 * The loop around one machine: one input in, outputs acted upon until there are none, one timer armed.
 *
 * What is acted upon may call back in. Such a call hands its input to the machine and returns; the loop that is already running
 * finds what came of it.
 */
export class Driver {
  readonly #nodes = new Nodes();
  readonly #connection: Connection;
  readonly #url: string;
  readonly #host: Host;
  readonly #questions: Questions;
  readonly #machine: Machine;
  readonly #leavePage: (() => void) | undefined;
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Infinity;
  #now = 0;
  /** How far the clock has been set back since the start. */
  #setBack = 0;
  #requests = 0;
  #isBusy = false;
  /** There is something to act upon, once this turn is over. */
  #hasMore = false;
  #isClosed = false;
  /** The message that is being taken in. */
  #message: unknown;
  /** Messages of a socket that speaks while it is spoken to. */
  readonly #later: unknown[] = [];

  constructor(connection: Connection, url: string, token: string | null, instantiate: (nodes: Nodes) => MachineClass) {
    const { options } = connection;
    this.#connection = connection;
    this.#url = url;
    this.#host = new Host(connection, this.#nodes);
    this.#questions = new Questions(options, url, (...input) => this.tell(...(input as [Input])));
    const Machine = instantiate(this.#nodes);
    this.#machine = new Machine(this.#nodes.put(machineOptions(options)), Math.random() * 2 ** 32, Math.random() * 2 ** 32);
    if (options.lifecycle !== false) {
      this.#leavePage = watchPage((input) => this.tell(input));
    }
    if (token !== null) {
      this.tell(Input.SetToken, token);
    }
  }

  /** Whether a handler runs, or something else is told. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Hands one input to the machine and acts upon what comes of it. Returns the machine's answer. */
  tell(input: Input, ...values: unknown[]): string | undefined {
    if (this.#isClosed) {
      return undefined;
    }
    const answer = this.#machine.input(this.#nodes.put([input, ...values]), this.#time());
    this.#drain();
    return answer;
  }

  /** The same, for what can be refused. */
  command(input: Input, ...values: unknown[]): void {
    const problem = this.tell(input, ...values);
    if (problem !== undefined) {
      throw new TypeError(problem);
    }
  }

  /** Numbers a request. */
  nextRequest(): number {
    this.#requests += 1;
    return this.#requests;
  }

  position(channel: string): Position | undefined {
    const items = this.tell(Input.Position, channel);
    if (items === undefined) {
      return undefined;
    }
    const [epoch, offset, tag] = JSON.parse(items) as PositionItems;
    return { epoch, offset, tag };
  }

  /** Closes the socket, clears the timer, forgets every question, stops listening to the page. Nothing more is said. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#leavePage?.();
    this.#questions.close();
    this.#close(1000, '');
  }

  #drain(): void {
    if (this.#isBusy) {
      this.#hasMore = true;
      return;
    }
    this.#isBusy = true;
    for (let text; !this.#isClosed && (text = this.#machine.poll()) !== undefined; ) {
      try {
        this.#act(JSON.parse(text));
      } catch (error) {
        report(error);
      }
    }
    this.#isBusy = false;
    this.#hasMore = false;
    this.#nodes.clear();
    if (!this.#isClosed) {
      this.#host.settled();
      this.#arm();
      if (this.#later.length > 0) {
        this.#hear(this.#later.shift());
      }
    }
  }

  #act([output, ...values]: [Output, ...any]): void {
    if (output === Output.Send) {
      this.#send(values[0]);
    } else if (output === Output.Open) {
      this.#open();
    } else if (output === Output.Close) {
      this.#close(values[0], values[1]);
    } else if (output === Output.NeedToken) {
      this.#questions.askForToken(values[0]);
    } else if (output === Output.NeedChannelAuth) {
      this.#questions.authorize(values[0], values[1], values[2]);
    } else if (output === Output.CancelChannelAuth) {
      this.#questions.cancel(values[0]);
    } else if (output === Output.Done) {
      const [request, ...error] = values as unknown as [number, ...ErrorItems];
      this.#host.done(request, error, this.#message as Reply);
    } else {
      this.#host.hear(output, values, this.#setBack);
    }
  }

  /** Opens a socket in place of the one there was. */
  #open(): void {
    this.#close(1000, '');
    const { options } = this.#connection;
    let socket: WebSocket;
    try {
      socket = new (webSocketClass(options))(this.#url, ['fanfare.v1.batch', 'fanfare.v1']) as WebSocket;
    } catch (error) {
      this.tell(Input.Closed, 1006, (error as Error | null)?.message);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => socket === this.#socket && this.tell(Input.Opened);
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(socket, data);
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) {
        this.#forget();
        this.tell(Input.Closed, code, reason);
      }
    };
    // A close event follows every error. Without a listener some classes of Node throw instead.
    socket.onerror = () => {};
  }

  #send(text: string): void {
    if (this.#connection.options.debug) {
      this.#connection.debug('frame-out', text.startsWith('{"type":"authenticate"') ? '{"type":"authenticate",...}' : text);
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
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null;
    }
    return socket;
  }

  #close(code: number, reason: string): void {
    const socket = this.#forget();
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
      this.tell(Input.Message);
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
      this.#message = message;
      this.tell(Input.Message, message);
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
    if (this.#machine.follow(channel.slot, offset ?? -1, high, low, this.#time()) === 0) {
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
      this.#timer = setTimeout(() => this.#ring(), Math.min(Math.max(due - this.#time(), 0), WAIT_MAX));
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

/** Above 2^31 - 1 milliseconds `setTimeout` fires at once. */
const WAIT_MAX = 2 ** 31 - 1;
