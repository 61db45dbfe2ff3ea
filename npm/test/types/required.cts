// The types of `require`.

import client = require('@fanfare/client');
import slim = require('@fanfare/client/slim');

const realtime = new client.Realtime('/ws');
realtime.subscribe('c', 'e', (data) => data.what.ever);
void slim.init(new Uint8Array());
export const isOurs = (error: unknown): boolean => error instanceof client.RealtimeError;
