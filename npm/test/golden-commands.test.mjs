import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countTo, frames, silent } from './support/golden.mjs';

const SINCE = { epoch: '5f3a', offset: 12, tag: 'a1' };
const ROOM = 'presence-chat.room-1';

/** What makes a client send the frame: `[number, act, options]`, or why it never does. */
const SCRIPTS = {
  authenticate: {
    'a bearer token': [1, () => {}, { token: 'eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl' }],
    'without an id: no reply but an error': 'it always wants the reply',
  },
  emit: {
    'a typed event for the server\'s event bus': 'it always gives a key',
    'with an idempotency key': [14, (rt) => rt.emit('order.created', { order: 7 }, { key: 'order-7' })],
  },
  goodbye: {
    'the server closes with 1000': 'closing the socket with 1000 says the same',
    'with an id': 'it does not wait for a reply',
  },
  history: {
    'the newest events': [16, (rt) => rt.channel('orders').history({ limit: 20 })],
    'everything since a position': [17, (rt) => rt.channel('orders').history({ since: SINCE })],
    'at most two since a position': [18, (rt) => rt.channel('orders').history({ since: SINCE, limit: 2 })],
    'without limits of the client\'s own': [19, (rt) => rt.channel('orders').history()],
  },
  ping: {
    'ask for a sign of life': 'any frame will do as the answer',
    'without an id the pong still comes': [1, (rt) => rt.reconnectNow()],
  },
  presence: {
    'ask for the members': [15, (rt) => rt.channel(ROOM).presence.fetch()],
  },
  presence_update: {
    'show other info to the other members': [17, (rt) => rt.channel(ROOM).presence.update({ name: 'Ann', status: 'away' })],
    'null takes the update back': [17, (rt) => rt.channel(ROOM).presence.update(null)],
    'info of any kind, and no reply asked for': 'it always wants the reply',
  },
  publish: {
    'a client event': 'it always gives a key',
    'with an idempotency key': [11, (rt) => rt.channel(ROOM).publish('message', 'hi', { key: '01J8Z3K5-1' })],
    'fire and forget': 'it always wants the reply',
    'the payload is kept byte for byte': 'it writes JSON in one way only',
  },
  subscribe: {
    'a public channel': [2, (rt) => rt.subscribe('org:abc123', 'x', () => {})],
    'a private channel with a token from the auth endpoint': [
      3,
      (rt) => rt.subscribe('private-user.123', 'x', () => {}),
      { auth: () => ({ auth: 'v1.f3a1' }) },
    ],
    'a presence channel with signed member data': [
      4,
      (rt) => rt.channel(ROOM).presence.on('join', () => {}),
      { auth: async () => ({ auth: 'v1.f3a1', channel_data: '{"id":"7","info":{"name":"Ann"}}' }) },
    ],
    'an unsigned member hint': [5, (rt) => rt.subscribe(ROOM, 'x', () => {}, { data: { name: 'Ann' } })],
    'a member hint may be null': [5, (rt) => rt.subscribe(ROOM, 'x', () => {}, { data: null })],
    'a member that shows its own info from the start': 'it sends what it changed meanwhile: test/presence.test.mjs',
    'resume after a position': [
      6,
      (rt) =>
        rt.subscribe('orders', 'x', () => {}, {
          since: { epoch: '5f3a9c01d2e4b687', offset: 12, tag: 'a1b2c3d4e5f60718' },
        }),
    ],
    'resume from before the first message': [
      7,
      (rt) => rt.subscribe('orders', 'x', () => {}, { since: { epoch: '1', offset: 0, tag: '0' } }),
    ],
    'start with the last ten events': [8, (rt) => rt.subscribe('orders', 'x', () => {}, { rewind: 10 })],
    'everything at once, with the largest numbers': 'a position makes rewinding pointless',
    'several channels at once': 'test/lists.test.mjs has lists',
    'a list of one, with everything that a channel may have': 'it writes one channel by itself',
  },
  unsubscribe: {
    'leave a channel': [
      9,
      async (rt, server) => {
        rt.subscribe('org:abc123', 'x', () => {});
        const { id } = await server.command('subscribe');
        server.socket.say({ type: 'subscription_succeeded', id, channel: 'org:abc123', recovered: false });
        rt.channel('org:abc123').unsubscribe();
      },
      { numbersBefore: 1 },
    ],
  },
};

for (const { file, about, text } of frames('client')) {
  const script = SCRIPTS[file]?.[about];
  test(`${file}: ${about}`, async (t) => {
    assert.ok(script, 'no script for this golden frame');
    if (typeof script === 'string') {
      assert.ok(script.length > 0, 'the reason why it is never sent');
      return;
    }
    const [number, act, { numbersBefore = 0, ...options } = {}] = script;
    const { server, realtime } = await silent(t, options);
    await countTo(server, realtime, number - numbersBefore);
    Promise.resolve(act(realtime, server)).catch(() => {});
    const { type } = JSON.parse(text);
    const found = await server.until(() => server.socket.frames.filter((frame) => JSON.parse(frame).type === type).at(-1));
    assert.equal(found, text);
  });
}

test('no script is left over from a golden frame that is gone', () => {
  const known = frames('client').map(({ file, about }) => `${file}: ${about}`);
  const scripts = Object.entries(SCRIPTS).flatMap(([file, all]) => Object.keys(all).map((about) => `${file}: ${about}`));
  assert.deepEqual(scripts.filter((name) => !known.includes(name)), []);
});
