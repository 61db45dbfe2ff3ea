import { Realtime } from '@fanfare/client';
import { WebSocket } from 'ws';
import { talk } from './talk.js';

console.log(await talk(Realtime, process.argv[2], { WebSocket }));
