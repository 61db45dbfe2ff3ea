import { Realtime } from '@fanfare/client';

const realtime = new Realtime(process.argv[2], { autoConnect: false });
realtime.connect().catch((error) => console.log(error.message));
