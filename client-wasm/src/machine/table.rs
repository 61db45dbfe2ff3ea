// Every number that crosses the border between the module and TypeScript, by name.
//
// Rust reads this file in `seam.rs`; `cargo xtask seam` writes it as TypeScript to `npm/src/table.ts`. A name stands for its place in its
// enum. What stands behind `=` is what TypeScript makes of it.
//
// In what follows a name, a value is its number, 0 where there is none; another number that may be absent is -1 then; a flag is 1 or 0.
// An epoch or a tag is two numbers, its upper and its lower 32 bits; a position an offset, an epoch and a tag.

border! {
    /// What goes in, and what follows it.
    taken enum Input {
        Connect,
        Disconnect,
        Opened,
        TimedOut,
        Online,
        Offline,
        Wake,
        Suspend,
        /// Close code, reason.
        Closed,
        /// A token.
        SetToken,
        /// A token; why there is none ([`NoToken`]), and a sentence about it.
        Token,
        /// Channel, token, member data; without a token whether that is final, the HTTP status, when to ask again, a sentence about it.
        ChannelAuth,
        /// Channel, position, rewind, hint, info.
        Subscribe,
        /// Channel.
        Unsubscribe,
        /// Number, channel, bytes, what it is ([`Asked`]), the user it was sent for or the info.
        Ask,
        /// Number.
        Abort,
        /// Channel, number of members: the list lacks some that there is room for.
        MembersIncomplete,
        /// A frame that is not of this protocol. From here on all is a sign of life.
        Unreadable,
        /// User, protocol, ping interval, largest payload, server's time; the fields of `limits`, or -1 for all of them.
        Connected,
        /// Id, user, end of the token, position, whether there are members.
        Ok,
        /// Id, code, sentence, whether to repeat it, when.
        Error,
        /// Channel, id, position, recovered, whether there are members, number of events; each as in [`Input::Event`].
        Subscribed,
        /// Channel; as [`Input::Error`].
        Refused,
        /// Channel, id, code, sentence.
        Unsubscribed,
        /// Channel, what it says ([`Said`]), offset, tag, epoch.
        Event,
        /// Channel, offset, tag, epoch.
        Skipped,
        /// Channel, first and last lost offset, sentence.
        Gap,
        /// Channel, position, sentence.
        Reset,
        /// The server's time.
        Pong,
        /// Close code, sentence, whether to come back, when.
        Leaving,
    }

    /// What the application asks for.
    taken enum Asked {
        Plain,
        /// The server recognises it by its key when it comes again.
        Repeatable,
        /// It changes the info that the other members see.
        Update,
    }

    /// Why there is no token.
    taken enum NoToken {
        Anonymous,
        Unauthorized,
        Failed,
    }

    /// What an event says.
    taken enum Said {
        Content,
        /// A member came, went, or shows other info: the event.
        Change,
        Unreadable,
    }

    /// What kind of channel a name is of, in the number of a value: the remainder after a division by four.
    taken enum ChannelKind {
        Public,
        Private = "private-",
        Presence = "presence-",
        Personal = "user:",
    }

    /// What comes out, and what follows it.
    put enum Output {
        Open,
        /// Which of the goodbyes.
        Close,
        /// Id; a [`Command`].
        Send,
        /// Why.
        NeedToken,
        /// Channel, why.
        NeedChannelAuth,
        /// Channel.
        CancelChannelAuth,
        /// State, attempt, resumed, retry at, user; an error.
        Status,
        /// Channel, state; an error.
        Channel,
        /// Channel, which event of the message that is being taken in, recovered; a position.
        Message,
        /// Channel, later changes. The members are in the message that is being taken in.
        Members,
        /// Channel, the event.
        Change,
        /// Channel, first and last lost offset, reason, server's words.
        Gap,
        /// Channel, server's words; a position.
        Reset,
        /// The number of a request; an error. Without one, the answer is the message that is being taken in.
        Done,
        /// An error.
        Error,
    }

    /// What to send.
    put enum Command {
        /// The number of a request.
        Asked,
        /// Token.
        Authenticate,
        /// Channel, token, member data, hint, info, rewind; a position. The same again for each further channel of a list.
        Subscribe,
        /// Channel.
        Unsubscribe,
        /// Channel.
        Presence,
        Ping,
    }

    /// Where the connection is.
    put enum ConnectionState {
        Idle = "idle",
        Connecting = "connecting",
        Connected = "connected",
        Reconnecting = "reconnecting",
        Offline = "offline",
        Disconnected = "disconnected",
        Failed = "failed",
    }

    /// How far a subscription is.
    put enum ChannelState {
        Authorizing = "authorizing",
        Subscribing = "subscribing",
        Subscribed = "subscribed",
        Suspended = "suspended",
        Failed = "failed",
        Closed = "closed",
    }

    /// Why a token is needed.
    put enum TokenReason {
        Connect = "connect",
        Expiring = "expiring",
        Rejected = "rejected",
    }

    /// Why a channel token is needed.
    put enum AuthReason {
        Subscribe = "subscribe",
        Resubscribe = "resubscribe",
        Expired = "expired",
    }

    /// What a socket is closed with: the code and the reason.
    put enum Goodbye {
        Normal = (1000, ""),
        UnknownVersion = (4000, "unknown protocol version"),
        NotThisProtocol = (4000, "not this protocol"),
        Silent = (4102, "nothing was received for too long"),
        NotGreeted = (4104, "no credentials arrived in time"),
    }

    /// Why messages are missing.
    put enum GapReason {
        Expired = "expired",
        Epoch = "epoch",
        Away = "away",
        Diverged = "diverged",
        Sequence = "sequence",
        Overflow = "overflow",
        /// The server's words.
        Server,
    }

    /// What went wrong: the code of a `RealtimeError` and its sentence. What follows is in `output.rs`.
    put enum ErrorKind {
        /// A refusal, in the server's words.
        Server = ("rejected", ""),
        Transport = ("transport", "the connection was lost"),
        HandshakeTimeout = ("handshake-timeout", "the server did not greet in time"),
        PingTimeout = ("ping-timeout", "the server did not answer a ping"),
        Token = ("token", "no token could be had"),
        AuthFailed = ("auth-http", "no channel token could be had"),
        AuthTimeout = ("auth-timeout", "the auth endpoint did not answer in time"),
        Timeout = ("ack-timeout", "the server did not answer in time"),
        Expired = ("expired", "the request waited too long for a connection"),
        QueueFull = ("queue-full", "too many requests are waiting"),
        /// From here on another try comes to the same.
        Protocol = ("protocol", "the server sent something that is not this protocol"),
        Unauthorized = ("unauthorized", "the credentials were refused"),
        AuthForbidden = ("auth-forbidden", "this channel was refused"),
        PayloadTooLarge = ("payload-too-large", "the payload is larger than the server takes"),
        Closed = ("closed", "the client is disconnected"),
        UnknownOutcome = ("unknown-outcome", "it is not known whether this was accepted"),
        Aborted = ("aborted", "the request was aborted"),
        TooManyJoins = ("overflow", "the server joins this client to more channels than it takes"),
        TooManyChannels = ("too-many-channels", "more channels are wanted than the server allows"),
    }
}
