// What rendering on a server does with it: importing and making a client must neither connect nor keep the process alive.
import { Realtime } from '@fanfare/client';

const realtime = new Realtime('wss://example.org/ws', { autoConnect: false });
realtime.channel('orders');
console.log(realtime.state);
