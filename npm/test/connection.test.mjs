import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Realtime, RealtimeError, UnauthorizedError } from '@fanfare/client';
import { connected, pair, turn } from './support/client.mjs';
import { FakeServer, limits } from './support/fake-server.mjs';

test('connects by itself, or when it is told to', async (t) => {
  const { server, realtime } = pair(t);
  assert.equal(realtime.state, 'connecting');
  await server.until(() => realtime.state === 'connected');
  assert.equal(realtime.socketId, server.socket.socketId);
  assert.equal(server.socket.url, 'ws://example.org/ws');
  assert.deepEqual(server.socket.protocols, ['fanfare.v1.batch', 'fanfare.v1']);

  const later = pair(t, { autoConnect: false });
  await turn();
  assert.equal(later.realtime.state, 'idle');
  assert.equal(later.server.sockets.length, 0);
  await later.realtime.connect();
  assert.equal(later.realtime.state, 'connected');
  await later.realtime.connect();
  assert.equal(later.server.sockets.length, 1, 'it was connected already');
});

test('tells every state it goes through', async (t) => {
  const { server, realtime } = pair(t, { autoConnect: false });
  const told = [];
  realtime.on('status', ({ previous, state }) => told.push(`${previous} > ${state}`));
  realtime.on('connected', ({ resumed }) => told.push(resumed ? 'resumed' : 'connected'));
  realtime.on('disconnected', ({ code, willReconnect }) => told.push(`lost ${code}, ${willReconnect}`));
  await realtime.connect();
  server.socket.drop(1006);
  await server.until(() => server.sockets.length === 2 && realtime.state === 'connected');
  realtime.disconnect();
  assert.deepEqual(told.filter((it) => it !== 'reconnecting > reconnecting'), [
    'idle > connecting',
    'connecting > connected',
    'connected',
    'connected > reconnecting',
    'lost 1006, true',
    'reconnecting > connected',
    'resumed',
    'connected > disconnected',
    'lost null, false',
  ]);
  assert.equal(server.socket.closedWith.code, 1000);
});

test('waits longer after each failure, by the clock of the page', async (t) => {
  const server = new FakeServer();
  server.onSocket = (socket) => socket.drop(1006);
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
  t.after(() => mock.timers.reset());
  const { realtime } = pair(t, { server, backoff: { min: 1000, max: 8000 } });
  const ceilings = [];
  for (let failures = 1; failures <= 6; failures += 1) {
    while (realtime.status.attempt < failures || realtime.status.retryAt === null) {
      await turn();
    }
    const wait = realtime.status.retryAt - Date.now();
    ceilings.push(Math.min(8000, 1000 * 2 ** (failures - 1)));
    assert.ok(wait >= 0 && wait <= ceilings.at(-1), `${wait} ms after ${failures} failures`);
    assert.equal(server.sockets.length, failures);
    mock.timers.tick(wait + 1);
  }
  assert.deepEqual(ceilings, [1000, 2000, 4000, 8000, 8000, 8000]);
});

test('reconnectNow does not wait', async (t) => {
  const { server, realtime } = await connected(t, { backoff: { min: 60_000, max: 60_000 } });
  server.socket.drop();
  assert.equal(realtime.state, 'reconnecting');
  realtime.reconnectNow();
  await server.until(() => realtime.state === 'connected');
  assert.equal(server.sockets.length, 2);
});

test('a terminal code ends it until connect() is called', async (t) => {
  const { server, realtime } = await connected(t);
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  server.socket.drop(4005, 'the application ended this connection');
  assert.equal(realtime.state, 'failed');
  assert.equal(errors.length, 1);
  assert.equal(errors[0].serverCode, 4005);
  await realtime.connect();
  assert.equal(realtime.state, 'connected');
});

test('connect() rejects when the connection is refused, when it is ended, and when its signal fires', async (t) => {
  const { server, realtime } = pair(t, { autoConnect: false });
  server.onSocket = (socket) => {
    socket.open();
    socket.drop(4003, 'no');
  };
  await assert.rejects(realtime.connect(), { name: 'RealtimeError', code: 'unauthorized' });
  server.onSocket = () => {};
  const ended = realtime.connect();
  realtime.disconnect();
  await assert.rejects(ended, { code: 'closed' });
  const abort = new AbortController();
  const waiting = realtime.connect({ signal: abort.signal });
  abort.abort('enough');
  await assert.rejects(waiting, { code: 'aborted', cause: 'enough' });
  assert.equal(realtime.state, 'connecting', 'only the waiting has ended');
  await assert.rejects(realtime.connect({ signal: abort.signal }), { code: 'aborted' });
});

test('disconnected by the application, it stays so', async (t) => {
  const { server, realtime } = await connected(t);
  realtime.disconnect();
  realtime.disconnect();
  assert.equal(realtime.state, 'disconnected');
  assert.equal(realtime.status.retryAt, null);
  await realtime.connect();
  assert.equal(server.sockets.length, 2);
});

test('disconnect() before the module is loaded is heeded', async (t) => {
  const { server, realtime } = pair(t);
  realtime.disconnect();
  assert.equal(realtime.state, 'disconnected');
  await realtime.channel('c').history().catch(() => {}, realtime.close());
  assert.equal(server.sockets.length, 0);
});

test('what an old socket still says does not count', async (t) => {
  const { server, realtime } = await connected(t);
  const heard = [];
  realtime.subscribe('c', 'e', (data) => heard.push(data));
  await realtime.channel('c').ready();
  const [old] = server.sockets;
  realtime.disconnect();
  await realtime.connect();
  await realtime.channel('c').ready();
  old.event('c', 'e', 'old');
  old.drop(4005);
  server.socket.event('c', 'e', 'new');
  assert.deepEqual(heard, ['new']);
});

test('gives the token first, and again when it is told a new one', async (t) => {
  const { server, realtime } = await connected(t, { token: 'token-of-ann' });
  assert.equal((await server.command('authenticate')).token, 'token-of-ann');
  assert.equal(realtime.userId, 'ann');
  realtime.setToken('token-of-bob');
  assert.equal((await server.command('authenticate')).token, 'token-of-bob');
  await server.until(() => realtime.userId === 'bob');
});

test('asks the token provider for the first connection, and when the server no longer takes the token', async (t) => {
  const reasons = [];
  const token = async ({ reason }) => {
    reasons.push(reason);
    return `token-${reasons.length}`;
  };
  const { server } = await connected(t, { token });
  assert.equal((await server.command('authenticate')).token, 'token-1');
  server.socket.drop();
  assert.equal((await server.command('authenticate')).token, 'token-1', 'it has not ended');
  server.socket.drop(4105, 'the token has expired');
  assert.equal((await server.command('authenticate')).token, 'token-2');
  assert.deepEqual(reasons, ['connect', 'rejected']);
});

test('a token provider may say that nobody is logged in, that it failed, or that it is pointless', async (t) => {
  const anonymous = await connected(t, { token: () => null });
  assert.deepEqual(anonymous.server.commands, []);

  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked === 1) {
      throw new Error('the login server sleeps');
    }
    return 'token-of-ann';
  };
  const { realtime } = await connected(t, { token });
  assert.equal(asked, 2);
  assert.equal(realtime.userId, 'ann');

  const refused = pair(t, {
    autoConnect: false,
    token: async () => {
      throw new UnauthorizedError();
    },
  });
  await assert.rejects(refused.realtime.connect(), { code: 'unauthorized' });
  assert.equal(refused.realtime.state, 'failed');
});

test('without a WebSocket the error says what to do', async (t) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket');
  delete globalThis.WebSocket;
  t.after(() => before && Object.defineProperty(globalThis, 'WebSocket', before));
  const realtime = new Realtime('ws://example.org/ws', { autoConnect: false });
  t.after(() => realtime.close());
  await assert.rejects(realtime.connect(), (error) => {
    assert.ok(error instanceof RealtimeError);
    assert.equal(error.code, 'no-websocket');
    assert.match(error.message, /"ws".*WebSocket/);
    return true;
  });
  assert.equal(realtime.state, 'failed');
});

test('an address that is none is an error with a code, not an exception', async (t) => {
  for (const url of ['nonsense', 'ftp://example.org/ws']) {
    const { realtime } = pair(t, { autoConnect: false });
    const client = new Realtime(url, { autoConnect: false, WebSocket: new FakeServer().WebSocket });
    t.after(() => client.close());
    await assert.rejects(client.connect(), { code: 'bad-url' });
    realtime.close();
  }
});

test('http addresses stand for WebSocket addresses', async (t) => {
  const server = new FakeServer();
  const realtime = new Realtime(new URL('https://example.org/ws'), { WebSocket: server.WebSocket });
  t.after(() => realtime.close());
  await realtime.connect();
  assert.equal(server.socket.url, 'wss://example.org/ws');
});

test('close() ends everything for good', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  const loop = channel.messages('e');
  const once = channel.once('e');
  await channel.ready();
  server.onCommand = () => {};
  const waiting = channel.publish('e', 1);
  await server.command('publish');
  realtime.close();
  await assert.rejects(waiting, { code: 'unknown-outcome' });
  await assert.rejects(once, { code: 'closed' });
  await assert.rejects(loop.next(), { code: 'closed' });
  assert.equal(realtime.state, 'disconnected');
  assert.equal(server.socket.closedWith.code, 1000);
  assert.throws(() => realtime.connect().catch(() => {}) && realtime.channel('c'), { code: 'closed' });
  assert.throws(() => channel.on('e', () => {}), { code: 'closed' });
  await assert.rejects(channel.publish('e', 1), { code: 'closed' });
  realtime.close();
});

test('a client is disposable', async (t) => {
  const { server, realtime } = await connected(t);
  realtime[Symbol.dispose]();
  assert.equal(server.socket.closedWith.code, 1000);
});

test('status is a snapshot for useSyncExternalStore', async (t) => {
  const { realtime } = pair(t, { autoConnect: false });
  const { subscribeStatus, getStatus } = realtime;
  assert.equal(getStatus(), getStatus(), 'the same object while nothing changes');
  const seen = [];
  const off = subscribeStatus(() => seen.push(getStatus().state));
  await realtime.connect();
  off();
  realtime.disconnect();
  assert.deepEqual(seen, ['connecting', 'connected']);
});

test('debug sees frames both ways, but no tokens', async (t) => {
  const seen = [];
  const { server, realtime } = await connected(t, { token: 'token-of-ann', debug: (event) => seen.push(event) });
  realtime.subscribe('c', 'e', () => {});
  await server.command('subscribe');
  const kinds = new Set(seen.map(({ kind }) => kind));
  assert.ok(['state', 'channel', 'frame-out'].every((kind) => kinds.has(kind)), [...kinds].join());
  assert.ok(!JSON.stringify(seen).includes('token-of'));
});

test('debug sees no token of a channel either, alone or in a list', async (t) => {
  const seen = [];
  const auth = ({ channel }) => ({ auth: `"\\secret-of-${channel}"`, channel_data: '{"user_id":"7"}' });
  const server = new FakeServer();
  server.greeting = { limits: limits() };
  const { realtime } = await connected(t, { server, auth, debug: (event) => seen.push(event) });
  await realtime.channel('private-a').ready();
  realtime.disconnect();
  ['private-b', 'private-c'].forEach((name) => realtime.subscribe(name, 'e', () => {}));
  await realtime.connect();
  await Promise.all(['private-b', 'private-c'].map((name) => realtime.channel(name).ready()));
  assert.ok(server.commands.some(({ channels }) => channels?.some(({ auth }) => auth.includes('secret-of-private-b'))));
  const frames = seen.filter(({ kind }) => kind === 'frame-out').map(({ detail }) => JSON.parse(detail));
  assert.ok(frames.some(({ auth, channel }) => channel === 'private-a' && auth === '...'));
  assert.ok(!JSON.stringify(seen).includes('secret-of'));
});

test('times without an end are times without an end', async (t) => {
  const endless = { handshakeTimeout: Infinity, ackTimeout: 2 ** 40, pongTimeout: Infinity, probeTimeout: Infinity };
  const { server, realtime } = await connected(t, { ...endless, queue: { ttl: Infinity }, auth: { timeout: Infinity } });
  server.onCommand = () => {};
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  realtime.reconnectNow();
  realtime.channel('c').publish('e', 1).catch((error) => errors.push(error));
  await server.command('publish');
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(realtime.state, 'connected');
  assert.deepEqual(errors, []);
});
