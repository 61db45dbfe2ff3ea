// What a program for Node compiles, which has no DOM library.

import { init, Realtime, RealtimeError, type ClientOptions } from '@fanfare/client';
import { Realtime as SlimRealtime } from '@fanfare/client/slim';

const options: ClientOptions = {
  autoConnect: false,
  token: async ({ reason }) => reason,
  auth: async ({ channel, signal }) => ({ auth: signal.aborted ? '' : channel }),
};
const realtime = new Realtime('wss://example.org/ws', options);
export const off = realtime.subscribe('orders', 'order.created', (order) => order, { rewind: 1 });
export const slim = new SlimRealtime('wss://example.org/ws', { auth: { endpoint: '/auth', headers: { 'x-csrf': 'x' } } });
export const loaded = init(new Uint8Array(8));
export const isOurs = (error: unknown) => error instanceof RealtimeError && error.code === 'closed';
realtime.on('error', (error) => error.status?.toFixed());
