import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { init, Realtime } from '@fanfare/client/slim';
import { WebSocket } from 'ws';
import { talk } from './talk.js';

await init(await readFile(createRequire(import.meta.url).resolve('@fanfare/client/client.wasm')));
console.log(await talk(Realtime, process.argv[2], { WebSocket }));
