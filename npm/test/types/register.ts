// The channels of an application, said once for all.

import { Realtime } from '@fanfare/client';

declare module '@fanfare/client' {
  interface Register {
    channels: { orders: { events: { created: { id: number } } } };
  }
}

const realtime = new Realtime('/ws');
realtime.subscribe('orders', 'created', ({ id }) => id.toFixed());
// @ts-expect-error: no such event
realtime.subscribe('orders', 'lost', () => {});
// @ts-expect-error: not a text
realtime.subscribe('orders', 'created', ({ id }) => id.trim());
