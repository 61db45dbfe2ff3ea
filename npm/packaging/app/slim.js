import wasm from '@fanfare/client/client.wasm?url';
import { init, Realtime } from '@fanfare/client/slim';
import { talk } from './talk.js';

globalThis.result = init(wasm).then(() => talk(Realtime, new URLSearchParams(location.search).get('server')));
