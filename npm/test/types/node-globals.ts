// With the types of Node, its own classes are what the package takes.

import { readFile } from 'node:fs/promises';
import { init, Realtime } from '@fanfare/client';

const realtime = new Realtime(new URL('wss://example.org/ws'), {
  auth: { endpoint: new URL('https://example.org/auth'), headers: async () => new Headers({ 'x-csrf': 'x' }) },
});
export const off = realtime.subscribe('orders', 'e', () => {}, { signal: AbortSignal.timeout(1000) });
export const answer = new Realtime('wss://example.org/ws', {
  auth: ({ signal }) => fetch('https://example.org/auth', { signal }).then((response) => response.json() as Promise<{ auth: string }>),
});
export const loaded = init(readFile('client.wasm'));
