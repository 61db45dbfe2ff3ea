// The machine knows names and texts by numbers: those that it still needs are kept, the others do not pile up.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { connected, subscribed, turn } from './support/client.mjs';
import { FakeServer, limits, position } from './support/fake-server.mjs';

const entry = fileURLToPath(new URL('../src/values.ts', import.meta.url));
const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: 'esm', write: false });
const { Values, bits, positionItems, positionOf } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);

test('a value has one number, which says of which kind a channel is', () => {
  const values = new Values();
  const numbers = ['orders', 'private-a', 'presence-a', 'user:7'].map((name) => values.put(name));
  assert.deepEqual(numbers.map((number) => number % 4), [0, 1, 2, 3]);
  assert.deepEqual(numbers.map((number) => values.put(values.at(number))), numbers);
  assert.deepEqual([values.put(undefined), values.put(null), values.at(0)], [0, 0, undefined]);
  assert.notEqual(values.put(''), 0);
});

test('what is not held is let go of, and its number is not used again', () => {
  const values = new Values();
  const kept = values.put('kept');
  const used = new Set([kept]);
  for (let at = 0; at < 10_000; at += 1) {
    const number = values.put(`name ${at}`);
    assert.ok(!used.has(number));
    used.add(number);
    values.sweep(() => [kept]);
  }
  const size = [...used].filter((number) => values.at(number) !== undefined).length;
  assert.ok(size < 300, `${size} are kept`);
  assert.equal(values.at(kept), 'kept');
  assert.equal(values.put('kept'), kept);
});

test('positions go over the border and back', () => {
  for (const at of [position(0), position(7), { epoch: 'ffffffffffffffff', offset: 2 ** 53 - 1, tag: 'fedcba9876543210' }]) {
    assert.deepEqual(positionOf(positionItems(at)), at);
  }
  assert.equal(positionOf([-1]), undefined);
  assert.equal(positionOf([]), undefined);
  assert.deepEqual(bits('100000000'), [1, 0]);
  assert.deepEqual(bits('00000000ffffffff'), [0, 0xffffffff]);
});

/** A server that takes as many commands as come. */
function patient() {
  const server = new FakeServer();
  server.greeting = { limits: limits({ commands_burst: 10_000 }) };
  return server;
}

/** More names that are used once than there is room for, before the machine stops waiting for anything. */
async function wander(server, realtime) {
  for (let at = 0; at < 150; at += 1) {
    const channel = realtime.channel(`once-${at}`);
    channel.on('e', () => {});
    await server.command('subscribe');
    await turn();
    channel.unsubscribe();
    await server.command('unsubscribe');
  }
}

test('what a connection is made with again survives everything that came between', async (t) => {
  const { server, realtime } = await connected(t, { server: patient(), token: 'token-of-ann' });
  const hinted = realtime.channel('presence-kept');
  hinted.on('e', () => {}, { data: { name: 'Ann' } });
  await hinted.ready();
  await wander(server, realtime);
  assert.equal(realtime.userId, 'ann');
  server.socket.drop();
  const again = await server.until(() => server.sockets[1]?.commands.find(({ type }) => type === 'subscribe'));
  const { token } = server.socket.commands.find(({ type }) => type === 'authenticate');
  assert.deepEqual([token, again.channel, again.data], ['token-of-ann', 'presence-kept', { name: 'Ann' }]);
  await hinted.ready();
  const heard = new Promise((resolve) => hinted.on('e', resolve));
  server.socket.event('presence-kept', 'e', 'still there');
  assert.equal(await heard, 'still there');
});

test('the last words of a server are still known when it closes', async (t) => {
  const { server, realtime } = await connected(t, { server: patient() });
  server.socket.say({ type: 'disconnect', code: 4200, reason: 'the last words', reconnect: true, after: 0 });
  await wander(server, realtime);
  server.socket.drop(4200, 'not these');
  assert.equal(realtime.status.reason, 'the last words');
});

test('a request knows its channel however long that takes', async (t) => {
  const { server, realtime } = await connected(t, { server: patient() });
  const friendly = server.onCommand;
  server.onCommand = (socket, command) => command.channel !== 'slow' && friendly(socket, command);
  const slow = realtime.channel('slow');
  slow.on('e', () => {});
  const { id } = await server.command('subscribe');
  const published = slow.publish('e', 1);
  await wander(server, realtime);
  assert.ok(!server.commands.some(({ type }) => type === 'publish'), 'it waits for its channel');
  server.onCommand = friendly;
  server.socket.say({ type: 'subscription_succeeded', id, channel: 'slow', recovered: false });
  await published;
});

test('changes that wait for a snapshot are there when it comes', async (t) => {
  const room = 'presence-room';
  const ann = { id: 'ann', info: 1 };
  const { server, channel } = await subscribed(t, room, { position: position(0), presence: { count: 1, members: [ann] } });
  const { presence } = channel;
  let synced;
  presence.on('sync', (members) => (synced = members));
  server.onCommand = () => {};
  server.socket.say({ type: 'gap', channel: room, reason: 'lost' });
  const { id } = await server.command('presence');
  for (let offset = 1; offset <= 200; offset += 1) {
    const data = { id: `u${offset}`, info: offset };
    server.socket.event(room, 'member_added', data, { offset, tag: (offset + 0xa0).toString(16) });
  }
  server.socket.event(room, 'member_removed', { id: 'u200' }, { offset: 201, tag: '1' });
  server.socket.say({ type: 'ok', id, count: 2, members: [{ id: 'u1', info: 'new' }, ann], position: position(1) });
  const ids = Array.from({ length: 199 }, (_, at) => `u${at + 1}`);
  assert.deepEqual(new Set(synced.keys()), new Set(['ann', ...ids]));
  assert.deepEqual([presence.count, synced.get('u1').info, synced.get('u150').info], [200, 'new', 150]);
});

test('an answer is kept until it is told, whatever comes in between', async (t) => {
  const { server, realtime } = await connected(t, { server: patient(), auth: {} });
  realtime.on('error', () => {});
  const { fetch } = globalThis;
  t.after(() => {
    globalThis.fetch = fetch;
  });
  const meanwhile = async () => {
    for (let step = 0; step < 10; step += 1) {
      await undefined;
      for (let at = 0; at < 200; at += 1) {
        server.socket.say({ type: 'error', code: 4300, error: `text ${step} ${at}`, retry: false });
      }
    }
  };
  globalThis.fetch = async () => ({
    ok: true,
    status: 200,
    text: async () => {
      meanwhile();
      return JSON.stringify({ auth: 'v1.token', channel_data: '{"id":"7"}' });
    },
  });
  realtime.channel('presence-room').on('e', () => {});
  const { auth, channel_data } = await server.command('subscribe');
  assert.deepEqual([auth, channel_data], ['v1.token', '{"id":"7"}']);
});
