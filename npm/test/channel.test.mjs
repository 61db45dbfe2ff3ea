import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, pair, subscribed, turn } from './support/client.mjs';
import { friendly, position } from './support/fake-server.mjs';

/** A signal, and what fires it. */
function aborting() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

test('subscribes with the first listener and unsubscribes after the last', async (t) => {
  const { server, realtime } = await connected(t);
  const heard = [];
  const first = realtime.subscribe('orders', 'created', (data) => heard.push(['first', data]));
  const second = realtime.subscribe('orders', 'created', (data) => heard.push(['second', data]));
  await realtime.channel('orders').ready();
  server.socket.event('orders', 'created', 1);
  first();
  first();
  server.socket.event('orders', 'created', 2);
  server.socket.event('orders', 'deleted', 3);
  assert.deepEqual(heard, [['first', 1], ['second', 1], ['second', 2]]);
  second();
  assert.equal((await server.command('unsubscribe')).channel, 'orders');
  assert.equal(server.commands.filter(({ type }) => type === 'subscribe').length, 1);
  assert.equal(realtime.channel('orders').state, 'idle');
});

test('who comes back within the linger finds the subscription as it was', async (t) => {
  const { server, realtime } = await connected(t, { linger: 60_000 });
  const heard = [];
  realtime.subscribe('c', 'e', () => {})();
  const channel = realtime.channel('c');
  channel.on('e', (data) => heard.push(data));
  await channel.ready();
  server.socket.event('c', 'e', 1);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(server.commands.map(({ type }) => type), ['subscribe']);
});

test('subscribe, unsubscribe, subscribe in one turn leaves one subscription', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  channel.on('e', () => {});
  channel.unsubscribe();
  const heard = [];
  channel.on('e', (data) => heard.push(data));
  await channel.ready();
  server.socket.event('c', 'e', 1);
  assert.deepEqual(heard, [1]);
});

test('a channel is the same object for everybody, also after a pause', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  assert.equal(realtime.channel('c'), channel);
  channel.on('e', () => {})();
  await server.command('unsubscribe');
  assert.equal(realtime.channel('c'), channel);
});

test('ten thousand channels come and go without growth', async (t) => {
  const { server, realtime } = await connected(t, { linger: 60_000 });
  for (let round = 0; round < 10_000; round += 1) {
    const channel = realtime.channel(`c-${round % 100}`);
    channel.on('e', () => {});
    channel.unsubscribe();
  }
  server.onCommand = friendly;
  const channel = realtime.channel('c-7');
  channel.on('e', () => {});
  await channel.ready();
  assert.equal(channel.state, 'subscribed');
});

test('unsubscribe() ends it for everybody, and what they hold does nothing any more', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'c');
  const off = channel.on('e', () => assert.fail('removed'));
  const loop = channel.messages('e');
  const once = channel.once('e');
  channel.unsubscribe();
  await server.command('unsubscribe');
  assert.equal(channel.state, 'idle');
  assert.deepEqual(await loop.next(), { value: undefined, done: true });
  await assert.rejects(once, { code: 'closed', channel: 'c' });
  channel.on('e', () => {});
  await channel.ready();
  off();
  await turn();
  assert.equal(realtime.channel('c').state, 'subscribed', 'the old function did not count twice');
});

test('commands before the connection are kept for it', async (t) => {
  const { server, realtime } = pair(t, { autoConnect: false });
  const heard = [];
  realtime.subscribe('c', 'e', (data) => heard.push(data));
  const published = realtime.channel('c').publish('e', { a: 1 });
  assert.equal(realtime.channel('c').state, 'suspended');
  assert.equal(server.sockets.length, 0);
  realtime.connect();
  await published;
  server.socket.event('c', 'e', 1);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(server.commands.map(({ type }) => type), ['subscribe', 'publish']);
});

test('what waits for the first connection is bounded', async (t) => {
  const { realtime } = pair(t, { autoConnect: false, queue: { max: 2 } });
  const results = [1, 2, 3].map((data) => realtime.channel('c').publish('e', data));
  results.slice(0, 2).forEach((result) => result.catch(() => {}));
  await assert.rejects(results[2], { code: 'queue-full', retryable: true });
});

test('comes back from where it was', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'orders', { position: position(12) });
  const heard = [];
  channel.on('e', (data, { offset, epoch }) => heard.push([data, offset, epoch]));
  server.socket.event('orders', 'e', 'a', { offset: 13, tag: 'ad' });
  assert.deepEqual(channel.position, position(13));
  server.socket.drop();
  assert.equal(channel.state, 'suspended');
  assert.deepEqual(channel.position, position(13), 'kept while there is no connection');
  await server.until(() => server.sockets.length === 2);
  const again = await server.until(() => server.socket.commands.find(({ type }) => type === 'subscribe'));
  assert.deepEqual(again.since, position(13));
  assert.equal(realtime.state, 'connected');
  assert.deepEqual(heard, [['a', 13, '5f3a']]);
});

test('a channel without history says that something may be missing', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'live');
  const gaps = [];
  realtime.on('gap', (gap) => gaps.push(gap));
  channel.onGap((gap) => gaps.push(gap));
  server.socket.drop();
  await server.until(() => gaps.length === 2);
  assert.deepEqual(gaps[0], { channel: 'live', kind: 'gap', from: null, to: null, reason: 'away' });
  assert.equal(gaps[0], gaps[1]);
});

test('a signal ends a listener, and one that has fired never begins', async (t) => {
  const { server, realtime } = await connected(t);
  const abort = new AbortController();
  const heard = [];
  realtime.subscribe('c', 'e', (data) => heard.push(data), { signal: abort.signal });
  await realtime.channel('c').ready();
  server.socket.event('c', 'e', 1);
  abort.abort();
  server.socket.event('c', 'e', 2);
  await server.command('unsubscribe');
  realtime.subscribe('d', 'e', (data) => heard.push(data), { signal: abort.signal })();
  realtime.channel('d').onGap(() => {}, { signal: abort.signal });
  realtime.on('status', () => assert.fail('never begun'), { signal: abort.signal });
  assert.equal(realtime.channel('d').state, 'idle');
  assert.deepEqual(heard, [1]);
});

test('an unsubscribe function works with using', async (t) => {
  const { server, realtime } = await connected(t);
  const off = realtime.subscribe('c', 'e', () => {});
  off[Symbol.dispose]();
  await server.command('unsubscribe');
});

test('once() resolves with the message', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const next = channel.once('e');
  server.socket.event('c', 'other', 0);
  server.socket.event('c', 'e', 1, { user_id: 'ann' });
  server.socket.event('c', 'e', 2);
  const message = await next;
  assert.equal(message.data, 1);
  assert.equal(message.event, 'e');
  assert.deepEqual(message.from, { id: 'ann' });
});

test('once() ends in time, by its signal, and with the channel', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'c');
  await assert.rejects(channel.once('e', { timeout: 1 }), { code: 'timeout', channel: 'c' });
  for (const timeout of [Infinity, 2 ** 31]) {
    const { signal, abort } = aborting();
    const waiting = channel.once('e', { timeout, signal });
    setTimeout(abort, 20);
    await assert.rejects(waiting, { code: 'aborted' }, `${timeout} ms are not over`);
  }
  const abort = new AbortController();
  const waiting = channel.once('e', { signal: abort.signal });
  abort.abort('enough');
  await assert.rejects(waiting, { code: 'aborted', cause: 'enough' });
  await assert.rejects(channel.once('e', { signal: abort.signal }), { code: 'aborted' });
  const orphan = channel.once('e');
  server.socket.say({ type: 'unsubscribed', channel: 'c', code: 4318, reason: 'no more' });
  await assert.rejects(orphan, { serverCode: 4318 });
  assert.equal(realtime.state, 'connected');
});

test('a refused channel says why, and asks again when somebody wants it again', async (t) => {
  const { server, realtime } = await connected(t);
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  server.onCommand = (socket, { type, id, channel }) =>
    type === 'subscribe' &&
    socket.say({ type: 'subscription_error', id, channel, code: 4302, error: 'not allowed', retry: false });
  const channel = realtime.channel('private-x');
  const loop = channel.messages('e');
  await assert.rejects(channel.ready(), { code: 'subscribe-rejected', serverCode: 4302, channel: 'private-x' });
  await assert.rejects(loop.next(), { serverCode: 4302 });
  assert.equal(channel.state, 'failed');
  assert.equal(channel.error, errors[0]);
  server.onCommand = friendly;
  await channel.ready();
  assert.equal(channel.state, 'subscribed');
  assert.equal(channel.error, null);
});

test('ready() ends in time and by its signal', async (t) => {
  const { server, realtime } = await connected(t);
  server.onCommand = () => {};
  const channel = realtime.channel('c');
  await assert.rejects(channel.ready({ timeout: 1 }), { code: 'timeout' });
  const abort = new AbortController();
  const waiting = channel.ready({ signal: abort.signal });
  abort.abort();
  await assert.rejects(waiting, { code: 'aborted' });
});

test('names that are none are errors of the one call', async (t) => {
  const { realtime } = await connected(t);
  await assert.rejects(realtime.channel('no spaces').ready(), { code: 'bad-argument', channel: 'no spaces' });
  await assert.rejects(realtime.channel('c').publish('no\nline', 1), { code: 'bad-argument' });
  await assert.rejects(realtime.channel('').publish('e', 1), { code: 'bad-argument' });
  assert.equal(realtime.channel('no spaces').position, null);
  realtime.channel('no spaces').unsubscribe();
  assert.equal(realtime.state, 'connected');
});

test('a payload that JSON can not say is an error, not a surprise for the server', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  await assert.rejects(channel.publish('e', () => {}), { code: 'bad-argument' });
  await assert.rejects(channel.publish('e', 1n), { code: 'bad-argument' });
  await channel.publish('e', undefined);
  assert.equal((await server.command('publish')).data, null);
});

test('publish waits for the reply, and gives each message a key of its own', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  await Promise.all([channel.publish('e', 1), channel.publish('e', 2)]);
  const keys = server.commands.map(({ key }) => key);
  assert.equal(new Set(keys).size, 2);
  assert.ok(keys.every((key) => /^[\x20-\x7e]{8,128}$/.test(key)), keys.join());
});

test('an aborted request is over at once', async (t) => {
  const { server, realtime } = await connected(t);
  server.onCommand = () => {};
  const abort = new AbortController();
  const waiting = realtime.channel('c').publish('e', 1, { signal: abort.signal });
  const { id } = await server.command('publish');
  abort.abort();
  await assert.rejects(waiting, { code: 'aborted' });
  server.socket.say({ type: 'ok', id });
  await assert.rejects(realtime.channel('c').history({ signal: abort.signal }), { code: 'aborted' });
  server.onCommand = friendly;
  await realtime.channel('c').publish('e', 2);
});

const error = (id, code, retry) => ({ type: 'error', id, code, error: 'no', retry });

test('a refused repetition leaves an unknown outcome unknown', async (t) => {
  const { server, realtime } = await connected(t, { ackTimeout: 200 });
  const codes = [4316, 4315, 4307, 4319];
  server.onCommand = (socket, { id }) => socket.say(error(id, codes[server.commands.length - 1] ?? 4315, true));
  await assert.rejects(realtime.channel('c').publish('e', 1, { key: 'order-7' }), {
    code: 'unknown-outcome',
    retryable: false,
  });
  assert.ok(server.commands.length > codes.length, `${server.commands.length} attempts`);
  assert.ok(server.commands.every(({ key }) => key === 'order-7'));
});

test('a repetition that is accepted ends the doubt', async (t) => {
  const { server, realtime } = await connected(t);
  const codes = [4316, 4315];
  server.onCommand = (socket, { id }) => {
    const code = codes.shift();
    socket.say(code === undefined ? { type: 'ok', id, position: position(3) } : error(id, code, true));
  };
  assert.deepEqual(await realtime.channel('c').publish('e', 1), { position: position(3) });
});

test('a first attempt that is refused is refused', async (t) => {
  const { server, realtime } = await connected(t);
  server.onCommand = (socket, { id }) => socket.say(error(id, 4315, true));
  await assert.rejects(realtime.channel('c').publish('e', 1), { code: 'publish-rejected', retryable: true });
  assert.equal(server.commands.length, 1);
});

test('a lost connection leaves a publish without a user unknown, and one with a user is sent again', async (t) => {
  for (const user_id of [undefined, 'ann']) {
    const { server, realtime } = pair(t);
    server.onSocket = (socket) => socket.accept({ user_id });
    await realtime.connect();
    server.onCommand = () => {};
    const published = realtime.channel('c').publish('e', 1);
    await server.command('publish');
    server.onCommand = friendly;
    server.socket.drop(1006, '');
    if (user_id === undefined) {
      await assert.rejects(published, { code: 'unknown-outcome' });
    } else {
      await published;
    }
    assert.equal(server.commands.filter(({ type }) => type === 'publish').length, user_id === undefined ? 1 : 2);
  }
});

test('a payload above the limit of the server is refused here', async (t) => {
  const { server, realtime } = pair(t);
  server.onSocket = (socket) => socket.accept({ max_payload_size: 10 });
  await realtime.connect();
  await assert.rejects(realtime.channel('c').publish('e', 'x'.repeat(2_000)), {
    code: 'payload-too-large',
    retryable: false,
    message: /^the payload is larger than the server takes: a message has at most 1034 bytes, this one has 2\d{3}$/,
  });
  assert.deepEqual(server.commands, []);
});

test('a late answer is an error with a code', async (t) => {
  const { server, realtime } = await connected(t, { ackTimeout: 5 });
  server.onCommand = () => {};
  await assert.rejects(realtime.channel('c').history(), { code: 'ack-timeout', retryable: true });
});
