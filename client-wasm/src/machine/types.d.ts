/** Where a channel stands. */
export interface Position { epoch: string; offset: number; tag: string }

/** Times are in milliseconds; what is absent has the default of `fanfare-client`. */
export interface MachineOptions {
    /** The token to start with. */
    token?: string;
    backoffMin?: number;
    backoffMax?: number;
    backoffResetAfter?: number;
    handshakeTimeout?: number;
    requestTimeout?: number;
    pongTimeout?: number;
    probeTimeout?: number;
    authTimeout?: number;
    queueTtl?: number;
    queueMax?: number;
    queueBytesMax?: number;
    /** Private and presence channels need a token from here; `''` is the socket's own address with `/auth` behind it. */
    authEndpoint?: string;
    /** `include` by default. */
    authCredentials?: 'omit' | 'same-origin' | 'include';
    /** `false` to ignore online, offline, visibility and page cache events. */
    pageEvents?: boolean;
}

export interface SubscriptionOptions {
    since?: Position;
    rewind?: number;
    /** JSON text. */
    data?: string;
}

export interface MachineError {
    code: string;
    message: string;
    serverCode?: number;
    status?: number;
    channel?: string;
    retryable: boolean;
    retryAfter?: number;
}

export interface MachineStatus {
    state: 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'offline' | 'disconnected' | 'failed';
    previous: MachineStatus['state'];
    socketId?: string;
    userId?: string;
    attempt: number;
    /** As `Date.now()` counts. */
    retryAt?: number;
    resumed: boolean;
    code?: number;
    reason?: string;
    error?: MachineError;
}

export type MachineChannelState = 'authorizing' | 'subscribing' | 'subscribed' | 'suspended' | 'failed' | 'closed';

export interface MachineMember { id: string; info: unknown }

export interface MachineEvent {
    channel: string;
    event: string;
    data: unknown;
    offset?: number;
    epoch?: string;
    userId?: string;
    eventId?: string;
}

export interface MachineReply {
    userId?: string;
    expiresAt?: number;
    eventId?: string;
    position?: Position;
    count?: number;
    members?: MachineMember[];
    events?: MachineEvent[];
}

export interface MachineAuthRequest {
    channel: string;
    socketId: string;
    reason: 'subscribe' | 'resubscribe' | 'expired';
    signal: AbortSignal;
}

/** Called by the machine, each call on its own: what one throws is reported and disturbs nothing. */
export interface Host {
    state(status: MachineStatus): void;
    channel(name: string, state: MachineChannelState, previous: MachineChannelState, error: MachineError | undefined, recovered: boolean): void;
    message(channel: string, event: string, data: unknown, offset: number | undefined, epoch: string | undefined, userId: string | undefined, eventId: string | undefined, recovered: boolean): void;
    members(channel: string, members: MachineMember[], count: number): void;
    joined(channel: string, id: string, info: unknown): void;
    left(channel: string, id: string, reason: string | undefined): void;
    gap(channel: string, from: number | undefined, to: number | undefined, reason: string): void;
    reset(channel: string, position: Position, reason: string): void;
    done(request: number, error: MachineError | undefined, reply: MachineReply | undefined): void;
    error(error: MachineError): void;
    /** A rejection with an error of the name `UnauthorizedError` ends the connection for good. */
    token?(reason: 'connect' | 'expiring' | 'rejected'): Promise<string | null | undefined> | string | null | undefined;
    /** A rejection with an error of the name `UnauthorizedError` fails the channel; any other is tried again. */
    authorize?(request: MachineAuthRequest): Promise<{ auth: string; channel_data?: string }> | { auth: string; channel_data?: string };
    /** Asked before each request to the auth endpoint. */
    headers?(): HeadersInit | Promise<HeadersInit>;
    /** Makes a socket in place of the global `WebSocket`. */
    open?(url: string, protocols: string[]): WebSocket;
}
