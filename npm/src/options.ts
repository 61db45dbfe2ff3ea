import { RealtimeError } from './errors.js';
import type { ClientOptions, WebSocketClass } from './types.js';

/** The numbers for the machine: what is absent has its default here. */
export function machineOptions({ backoff = {}, queue = {}, ...options }: ClientOptions): number[] {
  const { auth } = options;
  return [
    backoff.min ?? 500,
    backoff.max ?? 20_000,
    backoff.resetAfter ?? 5_000,
    options.handshakeTimeout ?? PATIENCE,
    options.ackTimeout ?? PATIENCE,
    options.pongTimeout ?? PATIENCE,
    options.probeTimeout ?? 5_000,
    (typeof auth === 'object' ? auth.timeout : undefined) ?? PATIENCE,
    queue.ttl ?? 30_000,
    queue.max ?? 128,
    queue.bytes ?? 2 ** 20,
    options.serverChannelsMax ?? 1_000,
    +(typeof options.token === 'function'),
    +(auth !== undefined),
  ];
}

/** The address of the socket: relative ones belong to the page, `http` stands for `ws`. */
export function socketUrl(url: string | URL): string {
  const base = globalThis.location?.href;
  let parsed: URL;
  try {
    parsed = new URL(url, base);
  } catch (cause) {
    throw new RealtimeError('bad-url', `"${url}" is not the address of a WebSocket`, { cause });
  }
  parsed.protocol = parsed.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(parsed.protocol)) {
    throw new RealtimeError('bad-url', `"${url}" is not the address of a WebSocket`);
  }
  return parsed.href;
}

/** The class to make sockets with. */
export function webSocketClass(options: ClientOptions): WebSocketClass {
  const found = options.WebSocket ?? (globalThis.WebSocket as WebSocketClass | undefined);
  if (found === undefined) {
    throw new RealtimeError(
      'no-websocket',
      'this runtime has no WebSocket: install the package "ws" and pass its class as the option WebSocket',
    );
  }
  return found;
}

/** 10 s. */
const PATIENCE = 10_000;
