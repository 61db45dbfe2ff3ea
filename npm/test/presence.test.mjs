import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, pair, subscribed, turn } from './support/client.mjs';
import { FakeServer, position } from './support/fake-server.mjs';

const ROOM = 'presence-room';
const ANN = { id: 'ann', info: { name: 'Ann' } };
const BOB = { id: 'bob', info: { name: 'Bob' } };

/** A server that knows who connects. */
function loggedIn() {
  const server = new FakeServer();
  server.greeting = { user_id: 'ann' };
  return server;
}

function room(t, options = {}) {
  const presence = { count: 1, members: [ANN] };
  return subscribed(t, ROOM, { presence, position: position(1), ...options });
}

let offset = 1;
function added(socket, member) {
  offset += 1;
  socket.event(ROOM, 'member_added', member, { offset, tag: (offset + 0xa0).toString(16) });
}
function removed(socket, id) {
  offset += 1;
  socket.event(ROOM, 'member_removed', { id, reason: 'left' }, { offset, tag: (offset + 0xa0).toString(16) });
}

test.beforeEach(() => {
  offset = 1;
});

test('members come and go', async (t) => {
  const { server, channel } = await room(t);
  const { presence } = channel;
  assert.deepEqual([...presence.members.values()], [ANN]);
  const told = [];
  presence.on('join', (member) => told.push(['join', member.info.name, presence.count]));
  presence.on('leave', (member, reason) => told.push(['leave', member.info.name, reason, presence.count]));
  added(server.socket, BOB);
  removed(server.socket, 'ann');
  assert.deepEqual(told, [['join', 'Bob', 2], ['leave', 'Ann', 'left', 1]]);
  assert.deepEqual([...presence.members.keys()], ['bob']);
});

test('knows which member is me', async (t) => {
  // Nobody has logged in: the channel token was signed for Ann.
  const { server, realtime, channel } = await room(t, { user_id: 'ann' });
  assert.equal(realtime.userId, null);
  assert.deepEqual(channel.presence.me, ANN);
  removed(server.socket, 'ann');
  assert.equal(channel.presence.me, null);
  added(server.socket, ANN);
  // A subscription that moves stays that of the same member.
  const { onCommand } = server;
  server.onCommand = (socket, command) => {
    const { id, type } = command;
    const said = { type: 'subscription_succeeded', id, channel: ROOM, position: position(9), recovered: true };
    type === 'subscribe' ? socket.say({ ...said, presence: { count: 2, members: [ANN, BOB] } }) : onCommand(socket, command);
  };
  server.socket.event(ROOM, 'e', 1, { offset: 9, tag: 'a9' });
  await server.until(() => channel.presence.count === 2);
  assert.deepEqual(channel.presence.me, ANN);
  server.onCommand = onCommand;
  channel.unsubscribe();
  assert.equal(channel.presence.me, null);
  const other = await room(t, { user_id: 'eve' });
  assert.equal(other.channel.presence.me, null);
});

test('the members are a snapshot for useSyncExternalStore', async (t) => {
  const { server, channel } = await room(t);
  const { subscribe, getSnapshot } = channel.presence;
  const before = getSnapshot();
  assert.equal(getSnapshot(), before);
  let changes = 0;
  const off = subscribe(() => {
    changes += 1;
  });
  added(server.socket, BOB);
  assert.equal(changes, 1);
  assert.notEqual(getSnapshot(), before);
  assert.equal(before.size, 1, 'what was handed out does not change');
  off();
  removed(server.socket, 'bob');
  assert.equal(changes, 1);
});

test('away, the members are kept but not up to date; back, they are told anew', async (t) => {
  const { server, channel } = await room(t);
  const { presence } = channel;
  const synced = [];
  presence.on('sync', (members) => synced.push([...members.keys()]));
  server.socket.drop();
  assert.equal(presence.synced, false);
  assert.equal(presence.members.size, 1);
  await server.until(() => presence.synced);
  assert.deepEqual(synced, [['ann']]);
});

test('a sync listener that comes late hears who is there', async (t) => {
  const { channel } = await room(t);
  const { presence } = channel;
  assert.equal(presence.synced, true);
  const heard = [];
  const off = presence.on('sync', (members) => heard.push([...members.keys()]));
  assert.deepEqual(heard, [], 'not before the caller has what ends it');
  await turn();
  assert.deepEqual(heard, [['ann']]);
  off();
  presence.on('sync', () => assert.fail('it has ended'))();
  await turn();
});

test('a presence listener alone subscribes to the channel', async (t) => {
  const { server, realtime } = await connected(t);
  const off = realtime.channel(ROOM).presence.on('join', () => {});
  assert.equal((await server.command('subscribe')).channel, ROOM);
  await realtime.channel(ROOM).ready();
  off();
  await server.command('unsubscribe');
  assert.equal(realtime.channel(ROOM).presence.members.size, 0);
});

test('a signal ends a presence listener', async (t) => {
  const { server, channel } = await room(t);
  const abort = new AbortController();
  channel.presence.on('join', () => assert.fail('it has ended'), { signal: abort.signal });
  abort.abort();
  channel.presence.on('join', () => assert.fail('it never began'), { signal: abort.signal });
  added(server.socket, BOB);
});

test('fetch() asks without a subscription', async (t) => {
  const { server, realtime } = await connected(t);
  server.onCommand = (socket, { id }) => socket.say({ type: 'ok', id, members: [ANN], count: 5 });
  assert.deepEqual(await realtime.channel(ROOM).presence.fetch(), { members: [ANN], count: 5 });
  assert.deepEqual(server.commands.map(({ type }) => type), ['presence']);
});

test('a partial list becomes complete when there is room', async (t) => {
  const CID = { id: 'cid', info: null };
  const { server, channel } = await room(t, { presence: { count: 3, members: [ANN, BOB] } });
  const { presence } = channel;
  assert.deepEqual([presence.count, presence.members.size], [3, 2]);
  const { onCommand } = server;
  server.onCommand = (socket, command) =>
    command.type === 'presence'
      ? socket.say({ type: 'ok', id: command.id, count: 2, members: [ANN, CID], position: position(offset) })
      : onCommand(socket, command);
  removed(server.socket, 'bob');
  assert.deepEqual([presence.count, presence.members.size], [2, 1]);
  await server.until(() => presence.members.has('cid'));
  assert.deepEqual([presence.count, ...presence.members.keys()], [2, 'ann', 'cid']);
  assert.equal(server.commands.filter(({ type }) => type === 'presence').length, 1);
});

test('beyond the longest list only the count is kept', async (t) => {
  const members = Array.from({ length: 10_000 }, (_, at) => ({ id: `u${at}`, info: at }));
  const { server, channel } = await room(t, { presence: { count: 10_000, members } });
  const { presence } = channel;
  const told = [];
  presence.on('join', (member) => told.push(member));
  presence.on('leave', (member) => told.push(member));
  const size = () => [presence.count, presence.members.size];
  added(server.socket, BOB);
  assert.deepEqual([...size(), presence.members.has('bob')], [10_001, 10_000, false]);
  added(server.socket, { id: 'u7', info: 'new' });
  assert.deepEqual([...size(), presence.members.get('u7').info], [10_001, 10_000, 'new']);
  removed(server.socket, 'bob');
  assert.deepEqual(size(), [10_000, 10_000]);
  removed(server.socket, 'u7');
  added(server.socket, BOB);
  assert.deepEqual([...size(), presence.members.has('bob')], [10_000, 10_000, true]);
  assert.deepEqual(told, [BOB, { id: 'u7', info: 'new' }, { id: 'bob', info: null }, { id: 'u7', info: 'new' }, BOB]);
});

function updated(socket, id, info) {
  offset += 1;
  socket.event(ROOM, 'member_updated', { id, info }, { offset, tag: (offset + 0xa0).toString(16) });
}

test('a member shows other info', async (t) => {
  const { server, channel } = await room(t, { token: 'token-of-ann', presence: { count: 3, members: [ANN, BOB] } });
  const { presence } = channel;
  const told = [];
  for (const event of ['join', 'update', 'leave']) {
    presence.on(event, ({ id, info }) => told.push([event, id, info]));
  }
  const before = presence.getSnapshot();
  updated(server.socket, 'ann', { name: 'Ann', status: 'away' });
  assert.notEqual(presence.getSnapshot(), before);
  assert.equal(presence.members.get('ann').info.status, 'away');
  // One of those who are not listed.
  updated(server.socket, 'zoe', null);
  assert.deepEqual([presence.count, ...presence.members.keys()], [3, 'ann', 'bob']);
  assert.deepEqual(told, [['update', 'ann', { name: 'Ann', status: 'away' }], ['update', 'zoe', null]]);
});

test('without a login nothing is shown again: the next channel token may name another user', async (t) => {
  const { server, channel } = await room(t);
  await channel.presence.update({ status: 'away' });
  server.socket.drop();
  await server.until(() => channel.presence.synced);
  const subscribes = server.commands.filter(({ type }) => type === 'subscribe');
  assert.deepEqual(subscribes.map(({ info }) => info), [undefined, undefined]);
});

test('an update is shown again after a reconnect, until it is taken back', async (t) => {
  const { server, channel } = await room(t, { server: loggedIn() });
  const { presence } = channel;
  await presence.update({ status: 'away' });
  assert.deepEqual(server.commands.at(-1).info, { status: 'away' });
  const infos = () => server.commands.filter(({ type }) => type === 'subscribe').map(({ info }) => info);
  server.socket.drop();
  await server.until(() => presence.synced);
  assert.deepEqual(infos(), [undefined, { status: 'away' }]);
  await presence.update(undefined);
  assert.equal(server.commands.at(-1).info, null);
  server.socket.drop();
  await server.until(() => presence.synced);
  assert.deepEqual(infos(), [undefined, { status: 'away' }, undefined]);
  await assert.rejects(presence.update(1n), { code: 'bad-argument' });
});

test('an update before the connection stands goes out with the subscription', async (t) => {
  const { server, realtime } = pair(t, { autoConnect: false });
  const { presence } = realtime.channel(ROOM);
  presence.on('update', () => {});
  const done = presence.update('early');
  realtime.connect();
  assert.equal((await server.command('subscribe')).info, 'early');
  await done;
  assert.deepEqual(server.commands.filter(({ type }) => type === 'presence_update'), []);
});

test('an update that is not allowed rejects, and the channel is subscribed all the same', async (t) => {
  const { server, realtime } = pair(t, { autoConnect: false });
  const { onCommand } = server;
  server.onCommand = (socket, command) =>
    command.info === undefined
      ? onCommand(socket, command)
      : socket.say({ type: 'subscription_error', id: command.id, channel: ROOM, code: 4330, error: 'no', retry: false });
  realtime.on('error', () => assert.fail('the update says it'));
  const channel = realtime.channel(ROOM);
  channel.presence.on('update', () => {});
  const refused = assert.rejects(channel.presence.update('early'), { serverCode: 4330 });
  realtime.connect();
  await refused;
  await channel.ready();
});
