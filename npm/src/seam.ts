/** What crosses the border between TypeScript and the wasm module: the counterpart of `client-wasm/src/machine/`. */

/** Where a channel stands. Keep it to continue there later. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

/** The machine of `client-wasm`. Values are given as {@link Values} number them; one instance of the module has one machine. */
export interface Machine {
  /** Takes in what {@link Seam.take} gives, beginning with an {@link Input}. */
  input(now: number): void;
  /** 1 for a message that is exactly the next one of its channel; 0: it is an input. `offset` is -1 where there is none. */
  follow(channel: number, offset: number, tagHigh: number, tagLow: number, now: number): number;
  /** Puts the next thing to do out, beginning with an {@link Output}: 1; or 0 when there is nothing. */
  poll(): number;
  /** Puts out where a channel stands. */
  position(channel: number): void;
  /** Puts out every value that is kept. */
  held(): void;
  /** When to say that the time has come; negative when there is no such time. */
  timeout(): number;
}

/** The options go in with it. */
export type MachineClass = new (randomHigh: number, randomLow: number) => Machine;

/** How the module is given numbers and gives some: `client-wasm/src/machine/numbers.rs`. */
export interface Seam {
  take(): number;
  put(number: number): void;
}

/*
 * Below, a value is its number, 0 where there is none; another number that may be absent is -1 then; a flag is 1 or 0.
 * An epoch or a tag is two numbers, its upper and its lower 32 bits; a position an offset, an epoch and a tag.
 */

/** What goes in, and what follows it. */
export const enum Input {
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
  /** A token. */
  SetToken,
  /** A token; why there is none ({@link NoToken}), and a sentence about it. */
  Token,
  /** Channel, token, member data; without a token whether that is final, the HTTP status, when to ask again, a sentence about it. */
  ChannelAuth,
  /** Channel, position, rewind, hint, info. */
  Subscribe,
  /** Channel. */
  Unsubscribe,
  /** Number, channel, bytes, what it is ({@link Asked}), the user it was sent for or the info. */
  Ask,
  /** Number. */
  Abort,
  /** Channel, number of members: the list lacks some that there is room for. */
  MembersIncomplete,
  /** A frame that is not of this protocol. From here on all is a sign of life. */
  Unreadable,
  /** User, protocol, ping interval, largest payload, server's time; the fields of `limits`, or -1 for all of them. */
  Connected,
  /** Id, user, end of the token, position, whether there are members. */
  Ok,
  /** Id, code, sentence, whether to repeat it, when. */
  Error,
  /** Channel, id, position, recovered, whether there are members, number of events; each as in {@link Input.Event}. */
  Subscribed,
  /** Channel; as {@link Input.Error}. */
  Refused,
  /** Channel, id, code, sentence. */
  Unsubscribed,
  /** Channel, what it says ({@link Said}), offset, tag, epoch. */
  Event,
  /** Channel, offset, tag, epoch. */
  Skipped,
  /** Channel, first and last lost offset, sentence. */
  Gap,
  /** Channel, position, sentence. */
  Reset,
  /** The server's time. */
  Pong,
  /** Close code, sentence, whether to come back, when. */
  Leaving,
}

/** What the application asks for. */
export const enum Asked {
  Plain,
  /** The server recognises it by its key when it comes again. */
  Repeatable,
  /** It changes the info that the other members see. */
  Update,
}

export const enum NoToken {
  Anonymous,
  Unauthorized,
  Failed,
}

/** What an event says. */
export const enum Said {
  Content,
  /** A member came, went, or shows other info: the event. */
  Change,
  Unreadable,
}

/** What comes out, and what follows it. */
export const enum Output {
  Open,
  /** Which of the goodbyes. */
  Close,
  /** Id; a {@link Command}. */
  Send,
  /** Why. */
  NeedToken,
  /** Channel, why. */
  NeedChannelAuth,
  /** Channel. */
  CancelChannelAuth,
  /** State, attempt, resumed, retry at, user; an error. */
  Status,
  /** Channel, state; an error. */
  Channel,
  /** Channel, which event of the message that is being taken in, recovered; a position. */
  Message,
  /** Channel, later changes. The members are in the message that is being taken in. */
  Members,
  /** Channel, the event. */
  Change,
  /** Channel, first and last lost offset, reason, server's words. */
  Gap,
  /** Channel, server's words; a position. */
  Reset,
  /** The number of a request; an error. Without one, the answer is the message that is being taken in. */
  Done,
  /** An error. */
  Error,
}

/** What to send. */
export const enum Command {
  /** The number of a request. */
  Asked,
  /** Token. */
  Authenticate,
  /** Channel, token, member data, hint, info, rewind; a position. The same again for each further channel of a list. */
  Subscribe,
  /** Channel. */
  Unsubscribe,
  /** Channel. */
  Presence,
  Ping,
}

/** A message, as it was parsed. */
export type Message = Record<string, any>;
