import assert from 'node:assert/strict';
import { test } from 'node:test';
import { subscribed } from './support/client.mjs';

test('for await takes messages in order, also those that came before it asked', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const loop = channel.messages(['a', 'b']);
  for (const [event, data] of [['a', 1], ['x', 0], ['b', 2], ['a', 3]]) {
    server.socket.event('c', event, data);
  }
  const seen = [];
  for await (const { event, data } of loop) {
    seen.push([event, data]);
    if (seen.length === 3) {
      server.socket.event('c', 'b', 4);
    }
    if (seen.length === 4) {
      break;
    }
  }
  assert.deepEqual(seen, [['a', 1], ['b', 2], ['a', 3], ['b', 4]]);
  assert.deepEqual(await loop.next(), { value: undefined, done: true });
});

test('a channel itself is a loop over everything', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const loop = channel[Symbol.asyncIterator]();
  server.socket.event('c', 'a', 1);
  server.socket.event('c', 'b', 2);
  assert.equal((await loop.next()).value.event, 'a');
  assert.equal((await loop.next()).value.event, 'b');
  await loop.return();
});

test('those who ask before there is something get it in the order in which they asked', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const loop = channel.messages('e');
  const asked = [loop.next(), loop.next()];
  server.socket.event('c', 'e', 1);
  server.socket.event('c', 'e', 2);
  const results = await Promise.all(asked);
  assert.deepEqual(results.map(({ value }) => value.data), [1, 2]);
});

test('a loop that is too slow throws, after what it had', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const loop = channel.messages('e', { buffer: 2 });
  for (const data of [1, 2, 3]) {
    server.socket.event('c', 'e', data);
  }
  assert.equal((await loop.next()).value.data, 1);
  assert.equal((await loop.next()).value.data, 2);
  await assert.rejects(loop.next(), { code: 'overflow', channel: 'c' });
  assert.deepEqual(await loop.next(), { value: undefined, done: true });
});

test('or it forgets the oldest, where that was chosen', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const loop = channel.messages('e', { buffer: 2, overflow: 'drop-oldest' });
  for (const data of [1, 2, 3]) {
    server.socket.event('c', 'e', data);
  }
  assert.equal((await loop.next()).value.data, 2);
  assert.equal((await loop.next()).value.data, 3);
});

test('an abort ends the loop without an exception', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'c');
  const abort = new AbortController();
  const loop = channel.messages('e', { signal: abort.signal });
  server.socket.event('c', 'e', 1);
  const seen = [];
  for await (const { data } of loop) {
    seen.push(data);
    abort.abort();
  }
  assert.deepEqual(seen, [1]);
  const over = realtime.channel('d').messages('e', { signal: abort.signal });
  assert.deepEqual(await over.next(), { value: undefined, done: true });
  assert.equal(realtime.channel('d').state, 'idle');
});

test('leaving the loop gives the channel up', async (t) => {
  const { server, realtime } = await subscribed(t, 'other');
  const loop = realtime.channel('c').messages('e');
  await realtime.channel('c').ready();
  await loop.return();
  assert.equal((await server.command('unsubscribe')).channel, 'c');
});
