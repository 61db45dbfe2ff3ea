// The short way of plain messages and the general way come to the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pair, reported } from './support/client.mjs';
import { friendly, limits, position } from './support/fake-server.mjs';

/** What instances made while the test runs do: how often they took the short way, or that they never may. */
function ways(t) {
  const { Instance } = WebAssembly;
  const ways = { isShut: false, followed: 0 };
  WebAssembly.Instance = function (module, imports) {
    const { exports } = new Instance(module, imports);
    const machine_follow = (...values) => {
      const answer = ways.isShut ? 0 : exports.machine_follow(...values);
      ways.followed += answer;
      return answer;
    };
    return { exports: { ...exports, machine_follow } };
  };
  t.after(() => {
    WebAssembly.Instance = Instance;
  });
  return ways;
}

/** A client of three channels: `counted` and `crowd` have positions, `live` has none. Everything is written down. */
async function witness(t) {
  const { server, realtime } = pair(t, { backoff: { min: 0, max: 0 }, linger: 1e6 });
  // No pause depends on how fast this test runs.
  server.greeting = { limits: limits({ commands_burst: 1e6, commands_per_second: 1e6 }) };
  const log = [];
  server.onCommand = (socket, command) => {
    const { key, ...told } = command;
    log.push(told);
    if (command.channels !== undefined) {
      command.channels.forEach((one) => server.onCommand(socket, { ...one, type: 'subscribe', id: command.id }));
      return;
    }
    const { type, id, channel, since } = command;
    if (type === 'subscribe' && channel !== 'live') {
      const at = since ?? position(10);
      socket.say({ type: 'subscription_succeeded', id, channel, position: at, recovered: since !== undefined });
    } else {
      friendly(socket, command);
    }
  };
  await realtime.connect();
  const channels = ['counted', 'crowd', 'live'].map((name) => realtime.channel(name));
  for (const channel of channels) {
    channel.on('*', (data, meta) => {
      log.push({ data, ...meta, position: channel.position });
      if (data === 'throw') {
        throw new Error('of a handler');
      }
      if (data === 'leave') {
        realtime.channel('crowd').unsubscribe();
      }
      if (data === 'publish') {
        channel.publish('typing', 1).then(() => log.push('published'));
      }
      if (data === 'join') {
        realtime.channel('other').on('e', () => {});
      }
      if (data === 'ping') {
        realtime.reconnectNow();
      }
    });
    channel.onGap((gap) => log.push(gap));
    channel.onState((state) => log.push(`${channel.name} ${state}`));
    channel.presence.on('join', (member) => log.push(member));
    await channel.ready();
  }
  realtime.on('error', ({ code }) => log.push(`error ${code}`));
  const settled = () =>
    server.until(() => realtime.state === 'connected' && channels.every(({ state }) => state === 'subscribed' || state === 'idle'));
  const say = async (text) => {
    server.socket.sayText(text);
    await settled();
    log.push(channels.map((channel) => channel.position));
  };
  return { log, say };
}

/** The same frames, once over both ways and once over the general one alone. */
async function both(t, frames, road = ways(t)) {
  const uncaught = reported(t);
  const logs = [];
  for (const isShut of [false, true]) {
    road.isShut = isShut;
    const { log, say } = await witness(t);
    for (const frame of frames) {
      await say(frame);
    }
    logs.push([...log, ...uncaught.splice(0).map(String)]);
  }
  assert.deepEqual(logs[0], logs[1]);
  return { log: logs[0], followed: road.followed };
}

const event = (channel, offset, data, more = {}) => ({
  type: 'event',
  channel,
  event: 'e',
  data,
  ...(channel === 'live' ? {} : { offset, tag: (offset + 0xa0).toString(16) }),
  ...more,
});
const text = (...messages) => JSON.stringify(messages.length === 1 ? messages[0] : messages);

test('plain messages are followed, and arrive as they always did', async (t) => {
  const frames = [11, 12, 13, 14].flatMap((offset) => [text(event('counted', offset, offset)), text(event('live', 0, offset))]);
  const { log, followed } = await both(t, frames);
  assert.equal(followed, 7, 'all but the first that has this name');
  const last = log.findLast((it) => it.channel === 'counted' && it.offset === 14);
  assert.deepEqual(last, {
    data: 14,
    channel: 'counted',
    event: 'e',
    id: undefined,
    offset: 14,
    epoch: '5f3a',
    tag: position(14).tag,
    recovered: false,
    from: undefined,
    position: position(14),
  });
});

test('a position that a handler reads is that of its own message', async (t) => {
  const frame = text(...[11, 12, 13].map((offset) => event('counted', offset, offset)));
  const { log } = await both(t, [frame]);
  const heard = log.filter((it) => it.event === 'e');
  assert.deepEqual(heard.map((it) => it.position), [11, 12, 13].map((offset) => position(offset)));
});

/** Each of these follows two plain messages, so that the channel is on the short way, and is followed by two more. */
const ODDITIES = {
  'a duplicate': [event('counted', 12, 'again')],
  'the same offset with another mark': [event('counted', 12, 'rewritten', { tag: 'ff' })],
  'a jump': [event('counted', 20, 'far')],
  'a jump that was announced': [{ type: 'gap', channel: 'counted', from: 13, to: 14, reason: 'slow' }, event('counted', 15, 'after')],
  'a reset': [{ type: 'reset', channel: 'counted', position: position(3, 'ab'), reason: 'lost' }, event('counted', 4, 'anew')],
  'the epoch that it is in': [event('counted', 13, 'said', { epoch: '5f3a' })],
  'another epoch': [event('counted', 13, 'other', { epoch: 'ab' })],
  'an epoch that is none': [event('counted', 13, 'bad', { epoch: 'X' })],
  'skipped': [{ type: 'skipped', channel: 'counted', offset: 13, tag: 'ad' }, event('counted', 14, 'after')],
  'skipped, with a jump': [{ type: 'skipped', channel: 'counted', offset: 15, tag: 'af' }],
  'skipped, without a mark': [{ type: 'skipped', channel: 'counted', offset: 13 }],
  'a channel that nobody knows': [event('nowhere', 1, 'lost')],
  'a message without a channel': [{ type: 'event', event: 'e', data: 1 }],
  'no message at all': [null],
  'a list in a list': [[event('counted', 13, 'deep')]],
  'a type of tomorrow': [{ type: 'weather', channel: 'counted' }],
  'no payload': [{ ...event('counted', 13, 0), data: undefined }],
  'null for a payload': [event('counted', 13, null)],
  'an event that means something': [event('crowd', 13, { id: 'ann', info: 1 }, { event: 'member_added' })],
  'a name that is none': [event('counted', 13, 'bad', { event: 'ä' })],
  'a name that is new': [event('counted', 13, 'new', { event: 'f' }), event('counted', 14, 'known', { event: 'f' })],
  'a user': [event('counted', 13, 1, { user_id: 'ann' }), event('counted', 14, 2, { user_id: 'ann' })],
  'a user that is none': [event('counted', 13, 1, { user_id: '' })],
  'an event of the bus': [event('counted', 13, 1, { event_id: 'x1' })],
  'an id that is none': [event('counted', 13, 1, { event_id: 7 })],
  'no mark': [event('counted', 13, 1, { tag: undefined })],
  'nulls': [event('counted', 13, 1, { tag: null, epoch: null, user_id: null, event_id: null })],
  'nothing but nulls': [event('live', 0, 1, { offset: null, tag: null, epoch: null, user_id: null, event_id: null })],
  'a position where there were none': [event('live', 0, 1, { offset: 5, tag: '1', epoch: 'ab' }), event('live', 0, 2, { offset: 6, tag: '2' })],
  'no position where there was one': [event('counted', 13, 1, { offset: undefined, tag: undefined })],
  'a handler that throws': [event('counted', 13, 'throw'), event('counted', 14, 'next')],
  'a handler that leaves another channel': [event('counted', 13, 'leave'), event('crowd', 13, 'unheard'), event('counted', 14, 1)],
  'a handler that leaves its own channel': [event('crowd', 13, 'leave'), event('crowd', 14, 'unheard')],
  'a handler that publishes': [event('counted', 13, 'publish'), event('counted', 14, 1)],
  'a handler that subscribes': [event('counted', 13, 'join'), event('counted', 14, 1), event('live', 0, 1)],
  'a handler that asks for a sign of life': [event('counted', 13, 'ping'), event('counted', 14, 1)],
  ...Object.fromEntries(
    ['', 'A1', '0x1', 'g', ' a', '1'.repeat(17), 'ä', 7].map((tag) => [`the mark ${JSON.stringify(tag)}`, [event('counted', 13, 1, { tag })]]),
  ),
  'the longest mark': [event('counted', 13, 1, { tag: 'fedcba9876543210' })],
  ...Object.fromEntries(
    [-1, 1.5, 13.5, '13', 2 ** 53, -0, true].map((offset) => [`the offset ${JSON.stringify(offset)}`, [event('counted', 13, 1, { offset })]]),
  ),
};

for (const [name, messages] of Object.entries(ODDITIES)) {
  test(`both ways come to the same: ${name}`, async (t) => {
    const before = [11, 12].flatMap((offset) => ['counted', 'crowd', 'live'].map((channel) => event(channel, offset, offset)));
    const after = [13, 14, 15, 16].flatMap((offset) => ['counted', 'crowd', 'live'].map((channel) => event(channel, offset, `after ${offset}`)));
    const single = [...before, ...messages, ...after];
    const road = ways(t);
    const { followed } = await both(t, single.map((message) => text(message)), road);
    assert.ok(followed > 0);
    // In a batch what comes of one message is there before the next is looked at.
    await both(t, [text(...before), JSON.stringify([...messages, ...after])], road);
  });
}

test('both ways come to the same, whatever comes', async (t) => {
  let state = 7;
  const random = (below) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state % below;
  };
  const odd = Object.values(ODDITIES).flat();
  const next = { counted: 11, crowd: 11, live: 0 };
  const frames = [];
  for (let round = 0; round < 150; round += 1) {
    const messages = [];
    for (let count = 1 + random(5); count > 0; count -= 1) {
      const channel = ['counted', 'crowd', 'live'][random(3)];
      if (random(40) === 0) {
        messages.push(odd[random(odd.length)]);
      } else {
        messages.push(event(channel, next[channel], round));
        next[channel] += random(60) === 0 ? 2 : 1;
      }
    }
    frames.push(text(...messages));
  }
  const { followed } = await both(t, frames);
  assert.ok(followed > 20, `${followed}`);
});
