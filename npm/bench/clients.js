// Each client, connected to a scripted server and subscribed to the same channels: what a page has open.

// First: it replaces what the others look for when they are loaded.
import { PageSocket, socketClass } from './socket.js';

import { Realtime } from '@fanfare/client';
import { Centrifuge } from 'centrifuge';
import Pusher from 'pusher-js';
import { io } from 'socket.io-client';

/** A page with some rooms open; the messages go to all of them in turn. */
export const CHANNELS = Array.from({ length: 10 }, (_, number) => `chat.room-${number}`);
export const EVENT = 'message.created';

/**
 * What each client is made into: `frames(payloads)` is what its server would send for these payloads, one after the other on
 * the channels in turn, and `deliver(frame)` lets one arrive.
 */
export const CLIENTS = { floor, fanfare, 'fanfare, 16 per frame': batched, pusher, centrifuge, 'socket.io': socketIo };

/** No client at all: parse, look the channel up, drop what was seen before, call. */
async function floor(seen) {
  const channels = new Map(CHANNELS.map((name) => [name, { offset: 0, handler: (data) => seen(data) }]));
  const frames = numbered((channel, offset, data) => ({ type: 'event', channel, event: EVENT, data, offset, tag: tag(offset) }));
  const deliver = (text) => {
    const message = JSON.parse(text);
    const channel = channels.get(message.channel);
    if (message.offset > channel.offset) {
      channel.offset = message.offset;
      channel.handler(message.data);
    }
  };
  return { frames, deliver };
}

/** On channels with history: each message has an offset and a tag, and the client keeps its position. */
async function fanfare(seen) {
  const WebSocket = socketClass(
    (say) =>
      say(
        JSON.stringify({
          type: 'connected',
          socket_id: '00112233445566778899aabbccddeeff',
          protocol: 1,
          ping_interval: 30_000,
          max_payload_size: 1_048_576,
          server_time: Date.now(),
        }),
      ),
    (text, say) => {
      const { type, id, channel } = JSON.parse(text);
      if (type === 'subscribe') {
        const position = { epoch: EPOCH, offset: 0, tag: '0' };
        say(JSON.stringify({ type: 'subscription_succeeded', id, channel, position, recovered: false }));
      }
    },
  );
  const realtime = new Realtime('ws://localhost/ws', { WebSocket });
  await realtime.connect();
  for (const name of CHANNELS) {
    realtime.subscribe(name, EVENT, (data) => seen(data));
    await realtime.channel(name).ready();
  }
  const frames = numbered((channel, offset, data) => ({ type: 'event', channel, event: EVENT, data, offset, tag: tag(offset) }));
  const socket = WebSocket.last;
  return { frames, deliver: (text) => socket.deliver(text) };
}

/** The same with frames that carry several messages, as our server sends them when it has several. */
async function batched(seen) {
  const { frames, deliver } = await fanfare(seen);
  const joined = (payloads) => {
    const single = frames(payloads);
    const count = Math.ceil(single.length / BATCH);
    return Array.from({ length: count }, (_, at) => `[${single.slice(at * BATCH, (at + 1) * BATCH).join(',')}]`);
  };
  return { frames: joined, deliver };
}

/** Its protocol writes the payload as JSON inside JSON. */
async function pusher(seen) {
  const WebSocket = socketClass(
    (say) => {
      const data = JSON.stringify({ socket_id: '1.1', activity_timeout: 120 });
      say(JSON.stringify({ event: 'pusher:connection_established', data }));
    },
    (text, say) => {
      const { event, data } = JSON.parse(text);
      if (event === 'pusher:subscribe') {
        say(JSON.stringify({ event: 'pusher_internal:subscription_succeeded', channel: data.channel, data: '{}' }));
      }
    },
  );
  PageSocket.kind = WebSocket;
  const client = new Pusher('key', { cluster: 'x', wsHost: 'localhost', enabledTransports: ['ws'], forceTLS: false, enableStats: false });
  await Promise.all(
    CHANNELS.map((name) => {
      const channel = client.subscribe(name);
      channel.bind(EVENT, (data) => seen(data));
      return new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
    }),
  );
  const socket = WebSocket.last;
  const frames = numbered((channel, _, data) => ({ event: EVENT, channel, data: JSON.stringify(data) }));
  return { frames, deliver: (text) => socket.deliver(text) };
}

/** On recoverable channels: each publication has an offset, and the client keeps its position. */
async function centrifuge(seen) {
  const WebSocket = socketClass(
    () => {},
    (text, say) => {
      for (const line of text.split('\n')) {
        const { id, connect, subscribe } = JSON.parse(line);
        if (connect !== undefined) {
          say(JSON.stringify({ id, connect: { client: 'c', version: '6', ping: 25, pong: true } }));
        } else if (subscribe !== undefined) {
          say(JSON.stringify({ id, subscribe: { recoverable: true, positioned: true, epoch: EPOCH, offset: 0 } }));
        }
      }
    },
  );
  const client = new Centrifuge('ws://localhost/ws', { websocket: WebSocket });
  const subscribed = CHANNELS.map((name) => {
    const subscription = client.newSubscription(name);
    subscription.on('publication', ({ data }) => seen(data));
    subscription.subscribe();
    return subscription.ready();
  });
  client.connect();
  await Promise.all(subscribed);
  const socket = WebSocket.last;
  const frames = numbered((channel, offset, data) => ({ push: { channel, pub: { data, offset } } }));
  return { frames, deliver: (text) => socket.deliver(text) };
}

/** It has no channels on the client: each room is an event of its own. */
async function socketIo(seen) {
  const WebSocket = socketClass(
    (say) => say(`0${JSON.stringify({ sid: 's', upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 })}`),
    (text, say) => text === '40' && say('40{"sid":"s"}'),
  );
  PageSocket.kind = WebSocket;
  const client = io('ws://localhost', { transports: ['websocket'], forceNew: true });
  await new Promise((resolve) => client.on('connect', resolve));
  for (const name of CHANNELS) {
    client.on(name, (data) => seen(data));
  }
  const socket = WebSocket.last;
  const frames = numbered((channel, _, data) => [channel, data], '42');
  return { frames, deliver: (text) => socket.deliver(text) };
}

/** Frames with offsets that go on where the last ones ended. */
function numbered(frame, prefix = '') {
  let count = 0;
  return (payloads) =>
    payloads.map((data) => {
      const channel = CHANNELS[count % CHANNELS.length];
      const offset = Math.floor(count / CHANNELS.length) + 1;
      count += 1;
      return flat(prefix + JSON.stringify(frame(channel, offset, data)));
    });
}

/** A string as a socket delivers it: in one piece, not as the parts that it was put together from. */
function flat(text) {
  return decoder.decode(encoder.encode(text));
}

function tag(offset) {
  return ((BigInt(offset) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn).toString(16);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const EPOCH = '5f3a9c01d2e4b687';
const BATCH = 16;
