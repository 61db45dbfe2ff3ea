import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, pair, reported, subscribed } from './support/client.mjs';
import { FakeServer, friendly, position } from './support/fake-server.mjs';
import { armed } from './support/trap.mjs';

/** What the machine is entered by when something happens. */
const INPUT = 'machine_input';
/** What it is asked about a message that is most likely the next. */
const FOLLOW = 'machine_follow';

test('after a trap the same info is shown', async (t) => {
  const { trapNext } = armed(t);
  reported(t);
  const server = new FakeServer();
  server.greeting = { user_id: 'ann' };
  const { channel } = await subscribed(t, 'presence-a', { server, presence: { count: 0, members: [] } });
  await channel.presence.update('away');
  trapNext(INPUT);
  server.socket.event('presence-a', 'e', 1);
  await server.until(() => server.sockets.length === 2 && channel.state === 'subscribed');
  assert.equal(server.socket.commands.find(({ type }) => type === 'subscribe').info, 'away');
});

test('after a trap a new instance takes over, from the positions of the old one', async (t) => {
  const { instances, trapNext } = armed(t);
  const uncaught = reported(t);
  const { server, realtime, channel } = await subscribed(t, 'orders', { position: position(12) });
  const heard = [];
  const gaps = [];
  const errors = [];
  channel.on('e', (data) => heard.push(data));
  realtime.on('gap', (gap) => gaps.push(gap));
  realtime.on('error', (error) => errors.push(error));
  server.socket.event('orders', 'e', 13, { offset: 13, tag: 'ad' });
  const [old] = server.sockets;
  const missed = [13, 14, 15].map((offset) => ({ event: 'e', data: offset, offset, tag: (offset + 0xa0).toString(16) }));
  server.onCommand = (socket, { type, id, since }) =>
    type === 'subscribe' &&
    socket.say({
      type: 'subscription_succeeded',
      id,
      channel: 'orders',
      position: position(15),
      recovered: true,
      events: missed.filter(({ offset }) => offset > since.offset),
    });
  trapNext(INPUT);
  old.event('orders', 'never heard', 14, { offset: 14, tag: 'ae' });
  assert.equal(realtime.state, 'reconnecting');
  assert.equal(channel.state, 'suspended');
  await server.until(() => realtime.state === 'connected' && channel.state === 'subscribed');

  assert.equal(instances.length, 2);
  assert.equal(server.sockets.length, 2);
  assert.ok(old.closedWith, 'the old socket does not stay behind');
  const { since } = await server.until(() => server.socket.commands.find(({ type }) => type === 'subscribe'));
  assert.deepEqual(since, position(13), 'where the last message stands that was handed out');
  await server.until(() => heard.includes(15));
  assert.deepEqual(heard, [13, 14, 15], 'every message once, in order');
  assert.deepEqual(gaps, []);
  assert.equal(realtime.status.resumed, true);
  assert.deepEqual(errors.map(({ code }) => code), ['internal']);
  assert.ok(errors[0].cause instanceof WebAssembly.RuntimeError);
  assert.deepEqual(uncaught, []);
});

test('a trap on the short way is no different', async (t) => {
  const { trapNext } = armed(t);
  const { server, channel } = await subscribed(t, 'orders', { position: position(0) });
  const heard = [];
  channel.on('e', (data) => heard.push(data));
  for (const offset of [1, 2]) {
    server.socket.event('orders', 'e', offset, { offset, tag: (offset + 0xa0).toString(16) });
  }
  trapNext(FOLLOW);
  server.socket.event('orders', 'e', 3, { offset: 3, tag: 'a3' });
  await server.until(() => server.sockets.length === 2);
  const { since } = await server.until(() => server.socket.commands.find(({ type }) => type === 'subscribe'));
  assert.deepEqual(since, position(2));
  assert.deepEqual(heard, [1, 2]);
});

test('in the middle of a batch nothing is skipped', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime, channel } = await subscribed(t, 'orders', { position: position(0) });
  const heard = [];
  channel.on('e', (data) => {
    heard.push(data);
    if (data === 20) {
      trapNext(INPUT);
      realtime.subscribe('other', 'e', () => {});
    }
  });
  const events = Array.from({ length: 30 }, (_, at) => at + 1).map((offset) => ({
    event: 'e',
    data: offset,
    offset,
    tag: (offset + 0xa0).toString(16),
  }));
  server.onCommand = (socket, command) =>
    command.type === 'subscribe' && command.channel === 'orders'
      ? socket.say({
          type: 'subscription_succeeded',
          id: command.id,
          channel: 'orders',
          position: position(30),
          recovered: true,
          events: events.filter(({ offset }) => offset > command.since.offset),
        })
      : friendly(socket, command);
  server.socket.say(...events.map((event) => ({ type: 'event', channel: 'orders', ...event })));
  await server.until(() => heard.includes(30));
  assert.deepEqual(heard, events.map(({ data }) => data));
});

test('a publish without a user that had no answer is unknown after a trap', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime } = await connected(t);
  server.onCommand = () => {};
  const published = realtime.channel('c').publish('e', 1);
  await server.command('publish');
  trapNext(INPUT);
  realtime.channel('d').on('e', () => {});
  assert.equal(realtime.channel('d').position, null);
  await assert.rejects(published, { code: 'unknown-outcome' });
});

test('a repetition after a trap that is refused leaves the outcome unknown', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime } = pair(t);
  server.onSocket = (socket) => socket.accept({ user_id: 'ann' });
  await realtime.connect();
  server.onCommand = () => {};
  const published = realtime.channel('c').publish('e', 1);
  await server.command('publish');
  server.onCommand = (socket, { type, id }) =>
    type === 'publish' && socket.say({ type: 'error', id, code: 4302, error: 'no', retry: false });
  trapNext(INPUT);
  realtime.channel('d').on('e', () => {});
  assert.equal(realtime.channel('d').position, null);
  await assert.rejects(published, { code: 'unknown-outcome' });
});

test('requests that had no answer are asked again, under the same key', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime } = pair(t);
  server.onSocket = (socket) => socket.accept({ user_id: 'ann' });
  await realtime.connect();
  server.onCommand = () => {};
  const published = realtime.channel('c').publish('e', 1);
  const first = await server.command('publish');
  server.onCommand = (socket, { type, id }) => type === 'publish' && socket.say({ type: 'ok', id, position: position(3) });
  trapNext(INPUT);
  realtime.channel('d').on('e', () => {});
  assert.equal(realtime.channel('d').position, null);
  const second = await server.command('publish');
  assert.equal(second.key, first.key);
  assert.deepEqual(await published, { position: position(3) });
});

test('a channel without positions says that messages may be missing', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime, channel } = await subscribed(t, 'live');
  const gaps = [];
  realtime.on('gap', (gap) => gaps.push(gap));
  channel.onGap((gap) => gaps.push(gap));
  trapNext(INPUT);
  server.socket.event('live', 'e', 1);
  await server.until(() => gaps.length === 2);
  assert.deepEqual(gaps[0], { channel: 'live', kind: 'gap', from: null, to: null, reason: 'away' });
});

test('the token and who is logged in survive', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime } = await connected(t, { token: 'token-of-ann' });
  realtime.setToken('token-of-bob');
  await server.until(() => realtime.userId === 'bob');
  trapNext(INPUT);
  server.socket.say({ type: 'pong', timestamp: 1 });
  await server.until(() => server.sockets.length === 2 && realtime.state === 'connected');
  assert.equal(server.socket.commands[0].token, 'token-of-bob');
});

test('what traps again and again is given up, and can be tried again', async (t) => {
  const { trapNext } = armed(t);
  const { server, realtime } = pair(t, { autoConnect: false });
  server.onSocket = (socket) => {
    trapNext(INPUT);
    socket.accept();
  };
  await assert.rejects(realtime.connect(), { code: 'internal' });
  assert.equal(realtime.state, 'failed');
  assert.equal(server.sockets.length, 4);
  server.onSocket = (socket) => socket.accept();
  await realtime.connect();
  assert.equal(realtime.state, 'connected');
});

test('a trap of one client leaves the others alone', async (t) => {
  const { trapNext } = armed(t);
  const one = await connected(t);
  const other = await connected(t);
  trapNext(INPUT);
  one.server.socket.say({ type: 'pong', timestamp: 1 });
  await one.server.until(() => one.server.sockets.length === 2 && one.realtime.state === 'connected');
  assert.equal(other.realtime.state, 'connected');
  assert.equal(other.server.sockets.length, 1);
});

test('a trap after disconnect() does not connect again', async (t) => {
  const { trapNext, instances } = armed(t);
  const { server, realtime } = await connected(t);
  realtime.disconnect();
  trapNext(INPUT);
  realtime.setToken('token-of-ann');
  await server.until(() => instances.length === 2);
  assert.equal(realtime.state, 'disconnected');
  assert.equal(server.sockets.length, 1);
});
