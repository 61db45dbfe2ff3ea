import { type Failure, failure } from './errors.js';
import type { AuthEndpoint, AuthResult } from './types.js';

/** A channel token; or why there is none. */
export interface Answer extends Partial<AuthResult> {
  /** Asking again comes to the same. */
  readonly isFinal?: boolean;
  /** The HTTP status that came in its place. */
  readonly status?: number | undefined;
  /** When to ask again, in milliseconds. */
  readonly wait?: number | undefined;
  readonly why?: Failure;
}

/**
 * Asks an auth endpoint for the tokens of some channels: an answer for each, or one for all of them; nothing where it does not know
 * lists. `base` is the socket's address over HTTP. Throws what `headers` throws.
 */
export async function askEndpoint(
  { endpoint, headers, credentials = 'include' }: AuthEndpoint,
  base: string,
  channels: readonly string[],
  socket_id: string,
  signal: AbortSignal,
): Promise<Answer | Answer[] | undefined> {
  if (typeof fetch !== 'function') {
    return failed('this runtime has no `fetch`: give `auth` as a function');
  }
  const isList = channels.length > 1;
  const body = isList ? { channels, socket_id } : { channel: channels[0], socket_id };
  const all = new Headers(typeof headers === 'function' ? await unlessAborted(headers(), signal) : headers);
  all.set('content-type', 'application/json');
  let response: Response;
  let text = '';
  try {
    // What the endpoint is relative to where there is no page, and what it is beside of.
    const beside = `${base.replace(/\/*([?#].*)?$/, '')}/auth`;
    const url = endpoint ? (globalThis.location ? endpoint : new URL(endpoint, base)) : beside;
    // Where a redirect leads, the application's headers do not belong.
    const how = { method: 'POST', headers: all, credentials, redirect: 'manual', signal, body: JSON.stringify(body) } as const;
    response = await fetch(url, how);
    text = await read(response);
  } catch (error) {
    return { why: failure('the auth endpoint could not be reached or read', error) };
  }
  let json: Json = null;
  try {
    json = JSON.parse(text);
  } catch {
    // What came in its place is told below.
  }
  const { status, headers: headersOf } = response;
  const list = isList && json?.channels;
  if (list) {
    // Not available, not logged in, not allowed: as the same is said of one channel.
    return channels.map((name) => {
      const one = list[name] ?? {};
      return judge(one.code === undefined ? 200 : (one.code === 4315 ? 503 : one.code === 4301 ? 401 : 403), headersOf, one, name);
    });
  }
  // What concerns the caller or the moment says nothing about lists: not logged in, too early, too often, a server in trouble.
  return isList && /^(2|4(?!01|08|25|29))/.test(`${status}`) ? undefined : judge(status, headersOf, json, text);
}

/** An answer, or what a list has for one channel. */
type Json = { auth?: unknown; channel_data?: unknown; channels?: Record<string, Json>; error?: unknown; code?: unknown } | null;

function judge(status: number, headers: Headers, json: Json, text: string): Answer {
  const isOk = status >= 200 && status < 300;
  // 0: browsers do not tell the status of a redirect that is not followed.
  if (status < 400 && !isOk) {
    return failed('the auth endpoint redirects, which is not followed', status || undefined);
  }
  if (isOk) {
    const kind = text === '' ? 'nothing' : json === null ? (headers.get('content-type') ?? 'no JSON') : 'other JSON';
    return granted(json) ?? failed(`the auth endpoint answered ${status} with ${kind} in place of {"auth": "…"}`, status);
  }
  const error = typeof json?.error === 'string' ? `: ${json.error}` : '';
  const answer = failed(`the auth endpoint answered ${status}${error}`, status);
  // Requests that came too early, too often or too slowly, and a server in trouble.
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    // Seconds or a date: RFC 9110, section 10.2.3.
    const after = headers.get('retry-after') ?? '';
    const wait = /^\d+$/.test(after) ? +after * 1000 : Date.parse(after) - Date.now();
    return { ...answer, wait: wait >= 0 ? wait : undefined };
  }
  return { ...answer, isFinal: true };
}

/** An auth result that is one. */
export function granted(result: unknown): AuthResult | undefined {
  const { auth, channel_data } = (result ?? {}) as Record<string, unknown>;
  const isData = channel_data == null || typeof channel_data === 'string';
  return typeof auth === 'string' && isData ? { auth, channel_data: channel_data ?? undefined } as AuthResult : undefined;
}

function failed(text: string, status?: number): Answer {
  return { status, why: { text } };
}

/** The text of an answer, as long as one may be. */
async function read(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) {
    return response.text();
  }
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let room = BYTES_MAX;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return new Blob(chunks).text();
    }
    chunks.push(value);
    room -= value.length;
    if (room < 0) {
      reader.cancel().catch(() => {});
      throw new RangeError(`it has more than ${BYTES_MAX} bytes`);
    }
  }
}

/** 1 MiB: the tokens of hundreds of channels. */
const BYTES_MAX = 2 ** 20;

/** Settles as the promise does, or rejects with the signal's reason when that fires first. */
function unlessAborted<T>(promise: Promise<T> | T, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abandon = (): void => reject(signal.reason as Error);
    signal.aborted ? abandon() : signal.addEventListener('abort', abandon, { once: true });
    Promise.resolve(promise).then(resolve, reject);
  });
}
