// Written by `cargo xtask seam` from client-wasm/src/machine/table.rs.

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

/** Why there is no token. */
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

/** What kind of channel a name is of, in the number of a value: the remainder after a division by four. */
export const enum ChannelKind {
  Public,
  Private,
  Presence,
  Personal,
}

/** What each {@link ChannelKind} means that has a meaning of its own, in their order. */
export const CHANNEL_KINDS = [
  'private-',
  'presence-',
  'user:',
] as const;

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

/** Where the connection is. */
export const enum ConnectionState {
  Idle,
  Connecting,
  Connected,
  Reconnecting,
  Offline,
  Disconnected,
  Failed,
}

/** What each {@link ConnectionState} means that has a meaning of its own, in their order. */
export const CONNECTION_STATES = [
  'idle',
  'connecting',
  'connected',
  'reconnecting',
  'offline',
  'disconnected',
  'failed',
] as const;

/** How far a subscription is. */
export const enum ChannelState {
  Authorizing,
  Subscribing,
  Subscribed,
  Suspended,
  Failed,
  Closed,
}

/** What each {@link ChannelState} means that has a meaning of its own, in their order. */
export const CHANNEL_STATES = [
  'authorizing',
  'subscribing',
  'subscribed',
  'suspended',
  'failed',
  'closed',
] as const;

/** Why a token is needed. */
export const enum TokenReason {
  Connect,
  Expiring,
  Rejected,
}

/** What each {@link TokenReason} means that has a meaning of its own, in their order. */
export const TOKEN_REASONS = [
  'connect',
  'expiring',
  'rejected',
] as const;

/** Why a channel token is needed. */
export const enum AuthReason {
  Subscribe,
  Resubscribe,
  Expired,
}

/** What each {@link AuthReason} means that has a meaning of its own, in their order. */
export const AUTH_REASONS = [
  'subscribe',
  'resubscribe',
  'expired',
] as const;

/** What a socket is closed with: the code and the reason. */
export const enum Goodbye {
  Normal,
  UnknownVersion,
  NotThisProtocol,
  Silent,
  NotGreeted,
}

/** What each {@link Goodbye} means that has a meaning of its own, in their order. */
export const GOODBYES = [
  [1000, ''],
  [4000, 'unknown protocol version'],
  [4000, 'not this protocol'],
  [4102, 'nothing was received for too long'],
  [4104, 'no credentials arrived in time'],
] as const;

/** Why messages are missing. */
export const enum GapReason {
  Expired,
  Epoch,
  Away,
  Diverged,
  Sequence,
  Overflow,
  /** The server's words. */
  Server,
}

/** What each {@link GapReason} means that has a meaning of its own, in their order. */
export const GAP_REASONS = [
  'expired',
  'epoch',
  'away',
  'diverged',
  'sequence',
  'overflow',
] as const;

/** What went wrong: the code of a `RealtimeError` and its sentence. What follows is in `output.rs`. */
export const enum ErrorKind {
  /** A refusal, in the server's words. */
  Server,
  Transport,
  HandshakeTimeout,
  PingTimeout,
  Token,
  AuthFailed,
  AuthTimeout,
  Timeout,
  Expired,
  QueueFull,
  /** From here on another try comes to the same. */
  Protocol,
  Unauthorized,
  AuthForbidden,
  PayloadTooLarge,
  Closed,
  UnknownOutcome,
  Aborted,
  TooManyJoins,
  TooManyChannels,
}

/** What each {@link ErrorKind} means that has a meaning of its own, in their order. */
export const ERROR_KINDS = [
  ['rejected', ''],
  ['transport', 'the connection was lost'],
  ['handshake-timeout', 'the server did not greet in time'],
  ['ping-timeout', 'the server did not answer a ping'],
  ['token', 'no token could be had'],
  ['auth-http', 'no channel token could be had'],
  ['auth-timeout', 'the auth endpoint did not answer in time'],
  ['ack-timeout', 'the server did not answer in time'],
  ['expired', 'the request waited too long for a connection'],
  ['queue-full', 'too many requests are waiting'],
  ['protocol', 'the server sent something that is not this protocol'],
  ['unauthorized', 'the credentials were refused'],
  ['auth-forbidden', 'this channel was refused'],
  ['payload-too-large', 'the payload is larger than the server takes'],
  ['closed', 'the client is disconnected'],
  ['unknown-outcome', 'it is not known whether this was accepted'],
  ['aborted', 'the request was aborted'],
  ['overflow', 'the server joins this client to more channels than it takes'],
  ['too-many-channels', 'more channels are wanted than the server allows'],
] as const;
