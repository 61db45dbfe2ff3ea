// What must compile, and what must not: `@ts-expect-error` fails where there is no error.

import { Realtime, RealtimeError, UnauthorizedError, init } from '@fanfare/client';
import type { Channel, ClientOptions, Gap, Member, Message, Meta, Position, Unsubscribe, WasmInput } from '@fanfare/client';
import { Realtime as ExternalRealtime } from '@fanfare/client/external';
import { init as slimInit, Realtime as SlimRealtime } from '@fanfare/client/slim';

interface Order {
  id: number;
  total: number;
}

interface App {
  orders: { events: { 'order.created': Order; 'order.deleted': { id: number } } };
  [user: `private-user.${string}`]: { events: { notification: { text: string } } };
  [room: `presence-chat.${string}`]: {
    events: { message: { text: string }; typing: { userId: string } };
    publish: { typing: { userId: string } };
    member: { name: string };
  };
}

declare function same<Expected>(): <Actual>(
  value: Actual,
) => [Expected] extends [Actual] ? ([Actual] extends [Expected] ? void : never) : never;

const realtime = new Realtime<App>('wss://example.org/ws', {
  auth: { endpoint: '/ws/auth', headers: async () => ({ 'x-csrf': 'x' }), credentials: 'include', timeout: 1000 },
  token: async ({ reason }) => (reason === 'rejected' ? null : 'token'),
  backoff: { min: 1 },
  lifecycle: false,
});

const off: Unsubscribe = realtime.subscribe('orders', 'order.created', (order, meta) => {
  same<Order>()(order);
  same<Meta>()(meta);
});
off();
realtime.subscribe('orders', 'order.deleted', ({ id }) => id.toFixed(), { signal: new AbortController().signal });
realtime.subscribe('private-user.7', 'notification', ({ text }) => text.trim());
realtime.subscribe('something-else', 'whatever', (data) => data.anything.goes);
realtime.channel('orders').on('*', (data) => same<Order | { id: number }>()(data));

// @ts-expect-error: no such event
realtime.subscribe('orders', 'order.lost', () => {});
// @ts-expect-error: the payload is an object
realtime.subscribe('orders', 'order.created', (order: string) => order);
// @ts-expect-error: no such event in this pattern
realtime.subscribe('private-user.7', 'message', () => {});
// @ts-expect-error: a position has three fields
realtime.subscribe('orders', 'order.created', () => {}, { since: { offset: 1 } });
// @ts-expect-error: not an option
new Realtime('wss://example.org/ws', { autoconnect: true });
// @ts-expect-error: no such reason
new Realtime('wss://example.org/ws', { token: ({ reason }) => (reason === 'bored' ? 'x' : 'y') });

export async function channels(): Promise<void> {
  const room = realtime.channel('presence-chat.1');
  same<'presence-chat.1'>()(room.name);
  await room.publish('typing', { userId: 'ann' }, { key: 'once' });
  // @ts-expect-error: clients may not publish messages
  await room.publish('message', { text: 'hi' });
  // @ts-expect-error: another payload
  await room.publish('typing', { text: 'hi' });
  const { position } = await realtime.channel('orders').publish('order.created', { id: 1, total: 2 });
  same<Position | null>()(position);

  const message = await room.once('message', { timeout: 1000 });
  same<Message<{ text: string }, 'message'>>()(message);
  for await (const { event, data } of room.messages(['message', 'typing'], { buffer: 10, overflow: 'drop-oldest' })) {
    same<'message' | 'typing'>()(event);
    same<{ text: string } | { userId: string }>()(data);
  }
  for await (const any of room) {
    if (any.event === 'typing') {
      same<{ userId: string }>()(any.data);
    }
  }
  const { messages } = await room.history({ limit: 10 });
  same<string>()(messages.map((it) => (it.event === 'message' ? it.data.text : it.data.userId)).join());
  const { total } = (await realtime.channel('orders').ready()).name.length > 0 ? { total: 1 } : { total: 2 };
  total.toFixed();

  room.presence.on('join', (member) => member.info.name.trim());
  room.presence.on('leave', (member, reason) => [member.id, reason?.trim()]);
  room.presence.on('sync', (members) => same<ReadonlyMap<string, Member<{ name: string }>>>()(members));
  // @ts-expect-error: no such event
  room.presence.on('change', () => {});
  // @ts-expect-error: the members are not for changing
  room.presence.members.clear();
  same<string | undefined>()(room.presence.me?.info.name);
  room.onGap((gap: Gap) => gap.kind === 'reset');
  room.onState((state, previous, error) => [state === 'subscribed', previous, error?.code]);
}

export async function connection(): Promise<void> {
  realtime.on('status', (status) => status.state === 'failed' && status.error?.message);
  realtime.on('connected', ({ socketId, resumed }) => [socketId.length, resumed]);
  realtime.on('disconnected', ({ code, willReconnect }) => [code, willReconnect]);
  realtime.on('error', (error) => error instanceof UnauthorizedError || error.retryable);
  // @ts-expect-error: no such event
  realtime.on('message', () => {});
  await realtime.connect({ signal: new AbortController().signal });
  realtime.setToken(null);
  // @ts-expect-error: null logs out
  realtime.setToken();
  // @ts-expect-error: no server has an event bus yet
  await realtime.emit('order.created', { id: 7 });
  const unsubscribe = realtime.subscribeStatus(() => realtime.getStatus().attempt);
  unsubscribe();
  try {
    await realtime.channel('orders').history();
  } catch (error) {
    if (error instanceof RealtimeError && error.code === 'ack-timeout') {
      same<number | undefined>()(error.serverCode);
    }
    // @ts-expect-error: no such code
    error instanceof RealtimeError && error.code === 'bad-weather';
  }
  realtime.close();
}

export function untyped(): void {
  const anything = new Realtime('/ws');
  anything.subscribe('c', 'e', (data) => data.what.ever);
  const channel: Channel = anything.channel('c');
  channel.publish('e', [1, 2, 3]);
  const url = new Realtime(new URL('wss://example.org/ws'), { auth: ({ channel, socketId }) => ({ auth: channel + socketId }) });
  const options: ClientOptions = { debug: (event) => event.kind === 'restart', WebSocket };
  new SlimRealtime<App>('/ws', options).close();
  new ExternalRealtime<App>('/ws').close();
  url.close();
}

export function modules(input: WasmInput): Promise<unknown> {
  // @ts-expect-error: slim has no module of its own
  void slimInit();
  return Promise.all([init(), init(input), slimInit(fetch('/client.wasm'))]);
}
