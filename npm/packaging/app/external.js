import { Realtime } from '@fanfare/client/external';
import { talk } from './talk.js';

globalThis.result = talk(Realtime, new URLSearchParams(location.search).get('server'));
