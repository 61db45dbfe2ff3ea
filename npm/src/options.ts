import { RealtimeError } from './errors.js';
import type { Host, MachineOptions } from './seam.js';
import type { AuthEndpoint, ClientOptions, WebSocketClass } from './types.js';

/** The numbers and words for the machine. */
export function machineOptions(options: ClientOptions, token: string | null, url: string): MachineOptions {
  const { backoff = {}, queue = {} } = options;
  const all: { [Name in keyof MachineOptions]: MachineOptions[Name] | undefined } = {
    token: token ?? undefined,
    backoffMin: backoff.min,
    backoffMax: backoff.max,
    backoffResetAfter: backoff.resetAfter,
    handshakeTimeout: options.handshakeTimeout,
    requestTimeout: options.ackTimeout,
    pongTimeout: options.pongTimeout,
    probeTimeout: options.probeTimeout,
    queueMax: queue.max,
    queueBytesMax: queue.bytes,
    queueTtl: queue.ttl,
    pageEvents: options.lifecycle,
  };
  if (typeof options.auth === 'object') {
    all.authEndpoint = endpoint(options.auth, url);
    all.authCredentials = options.auth.credentials;
    all.authTimeout = options.auth.timeout;
  }
  return all as MachineOptions;
}

/** The questions that the application answers itself. */
export function answers(options: ClientOptions): Pick<Host, 'token' | 'authorize' | 'headers'> {
  const { token, auth } = options;
  const answers: Pick<Host, 'token' | 'authorize' | 'headers'> = {};
  if (typeof token === 'function') {
    answers.token = async (reason) => token({ reason });
  }
  if (typeof auth === 'function') {
    answers.authorize = async (request) => auth(request);
  } else if (auth?.headers !== undefined) {
    const { headers } = auth;
    answers.headers = async () => (typeof headers === 'function' ? headers() : headers);
  }
  return answers;
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

/** Where there is no page to be relative to, an endpoint is relative to the socket. */
function endpoint({ endpoint = '' }: AuthEndpoint, url: string): string {
  if (endpoint === '' || globalThis.location !== undefined) {
    return String(endpoint);
  }
  return new URL(endpoint, url.replace(/^ws/, 'http')).href;
}
