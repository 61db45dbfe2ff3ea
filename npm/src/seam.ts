/** What crosses the border between TypeScript and the wasm module: the counterpart of `client-wasm/src/machine/types.d.ts`. */

/** Where a channel stands. Keep it to continue there later. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

export interface MachineOptions {
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
  authEndpoint?: string;
  authCredentials?: 'omit' | 'same-origin' | 'include';
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
  retryAt?: number;
  resumed: boolean;
  code?: number;
  reason?: string;
  error?: MachineError;
}

export type MachineChannelState = 'authorizing' | 'subscribing' | 'subscribed' | 'suspended' | 'failed' | 'closed';

export interface MachineMember {
  id: string;
  info: unknown;
}

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

/** Called by the machine, never while it is busy: every method may call back. */
export interface Host {
  state(status: MachineStatus): void;
  channel(
    name: string,
    state: MachineChannelState,
    previous: MachineChannelState,
    error: MachineError | undefined,
    recovered: boolean,
  ): void;
  message(
    channel: string,
    event: string,
    data: unknown,
    offset: number | undefined,
    epoch: string | undefined,
    userId: string | undefined,
    eventId: string | undefined,
    recovered: boolean,
  ): void;
  members(channel: string, members: MachineMember[], count: number): void;
  joined(channel: string, id: string, info: unknown): void;
  left(channel: string, id: string, reason: string | undefined): void;
  gap(channel: string, from: number | undefined, to: number | undefined, reason: string): void;
  reset(channel: string, position: Position, reason: string): void;
  done(request: number, error: MachineError | undefined, reply: MachineReply | undefined): void;
  error(error: MachineError): void;
  token?: ((reason: 'connect' | 'expiring' | 'rejected') => Promise<string | null | undefined>) | undefined;
  authorize?: ((request: MachineAuthRequest) => Promise<{ auth: string; channel_data?: string }>) | undefined;
  headers?: (() => Promise<HeadersInit>) | undefined;
  open?: ((url: string, protocols: string[]) => WebSocket) | undefined;
}

/** The machine of `client-wasm`. Requests return a number; the answer comes through {@link Host.done}. */
export interface Machine {
  connect(): void;
  disconnect(): void;
  reconnect_now(): void;
  subscribe(channel: string, options?: SubscriptionOptions): void;
  unsubscribe(channel: string): void;
  publish(channel: string, event: string, json: string, key?: string): number;
  emit(event: string, json: string, key?: string): number;
  presence(channel: string): number;
  history(channel: string, since?: Position, limit?: number): number;
  abort(request: number): void;
  set_token(token?: string): void;
  position(channel: string): Position | undefined;
  close(): void;
}

export type MachineClass = new (url: string, options: MachineOptions, host: Host) => Machine;
