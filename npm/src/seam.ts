/** What crosses the border between TypeScript and the wasm module: the counterpart of `client-wasm/src/machine/`. */

/** Where a channel stands. Keep it to continue there later. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

/** A position as the module reads and writes it. */
export type PositionItems = [epoch: string, offset: number, tag: string];

/** The machine of `client-wasm`. Values are given as {@link Nodes} number them; one instance of the module has one machine. */
export interface Machine {
  /** Takes in an array that begins with an {@link Input}. Returns an answer, or why it was refused. */
  input(node: number, now: number): string | undefined;
  /** 1 for a message that is exactly the next one of its channel; 0: it is an input. `offset` is -1 where there is none. */
  follow(slot: number, offset: number, tagHigh: number, tagLow: number, now: number): number;
  /** The next thing to do: an array, as JSON, that begins with an {@link Output}. */
  poll(): string | undefined;
  /** When to say that the time has come; negative when there is no such time. */
  timeout(): number;
}

export type MachineClass = new (options: number, randomHigh: number, randomLow: number) => Machine;

/** How the module looks at values: `client-wasm/src/machine/node.rs`. */
export interface NodeAccess {
  kind(node: number): number;
  field(node: number, name: string): number;
  item(node: number, at: number): number;
  number(node: number): number;
  text(node: number): string | undefined;
}

/** What goes in, and what follows it in the array. */
export const enum Input {
  /** A message, as it was parsed. */
  Message,
  Connect,
  Disconnect,
  Opened,
  TimedOut,
  Online,
  Offline,
  Wake,
  Suspend,
  /** Close code, reason. */
  Closed,
  /** A token, or `null`. */
  SetToken,
  /** Why there is none ({@link NoToken}), a token. */
  Token,
  /** Channel, token, member data; or `null` twice and an HTTP status; or 0 and when to ask again. */
  ChannelAuth,
  /** Channel, position, rewind, JSON. */
  Subscribe,
  /** Channel. */
  Unsubscribe,
  /** Channel. Answered by a position, as JSON. */
  Position,
  /** Number, channel, event, JSON, key. */
  Publish,
  /** Number, `null`, event, JSON, key. */
  Emit,
  /** Number, channel. */
  Presence,
  /** Number, channel, position, limit. */
  History,
  /** Number. */
  Abort,
}

export const enum NoToken {
  Anonymous,
  Unauthorized,
  Failed,
}

/** What comes out, and what follows it in the array. */
export const enum Output {
  /** A frame. */
  Send,
  Open,
  /** Close code, reason. */
  Close,
  /** Why. */
  NeedToken,
  /** Channel, socket id, why. */
  NeedChannelAuth,
  /** Channel. */
  CancelChannelAuth,
  /** State, attempt, resumed, socket id, user id, retry at, close code, reason; an error. */
  Status,
  /** Channel, state; an error. */
  Channel,
  /** Channel, event, payload's number, user id, event id, recovered, slot; a position. */
  Message,
  /** Channel, count; id and information's number of each member. */
  Members,
  /** Channel, id, information's number. */
  Joined,
  /** Channel, id, reason. */
  Left,
  /** Channel, first and last lost offset, reason. */
  Gap,
  /** Channel, reason; a position. */
  Reset,
  /** The number of a request; an error. Without one, the answer is the message that is being taken in. */
  Done,
  /** An error. */
  Error,
}

/** An error at the end of an output. */
export type ErrorItems = [
  code?: string,
  message?: string,
  retryable?: boolean,
  serverCode?: number | null,
  status?: number | null,
  retryAfter?: number | null,
];

/** A reply, as the server sends it. */
export interface Reply {
  event_id?: string | null;
  position?: Position | null;
  count?: number | null;
  members?: { id: string; info: unknown }[] | null;
  events?: {
    event: string;
    data: unknown;
    offset?: number | null;
    epoch?: string | null;
    user_id?: string | null;
    event_id?: string | null;
  }[] | null;
}
