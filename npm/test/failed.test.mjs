import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, turn } from './support/client.mjs';

test('what waits ends when the client has failed for good, and what comes later does not wait', async (t) => {
  const { server, realtime } = await connected(t, { token: 'token-of-ann' });
  server.onCommand = () => {};
  const channel = realtime.channel('orders');
  const loop = (async () => {
    for await (const message of channel) {
      assert.fail(`${message}`);
    }
  })();
  const waiting = [channel.ready(), channel.once('n'), loop].map((promise) => assert.rejects(promise, { code: 'unauthorized' }));
  await turn();
  server.socket.drop(4105, 'the token has expired');
  await Promise.all(waiting);
  assert.equal(realtime.state, 'failed');
  assert.equal(realtime.status.error.code, 'unauthorized');
  await assert.rejects(realtime.channel('other').ready(), { code: 'unauthorized' });
  await assert.rejects(channel.once('n'), { code: 'unauthorized' });
  await assert.rejects(channel.messages('n').next(), { code: 'unauthorized' });
});

test('channels come back when a client that has failed connects again', async (t) => {
  const { server, realtime } = await connected(t, { token: 'token-of-ann' });
  const heard = [];
  const channel = realtime.channel('orders');
  channel.on('n', (data) => heard.push(data));
  await channel.ready();
  server.socket.drop(4003, 'the credentials were refused');
  await server.until(() => realtime.state === 'failed');
  realtime.setToken('token-of-bob');
  await realtime.connect();
  await channel.ready();
  server.socket.event('orders', 'n', 1);
  assert.deepEqual(heard, [1]);
  assert.equal(realtime.userId, 'bob');
});

test('after a disconnect the provider says who comes back', async (t) => {
  let user = 'ann';
  const { realtime } = await connected(t, { token: () => `token-of-${user}` });
  assert.equal(realtime.userId, 'ann');
  realtime.disconnect();
  user = 'bob';
  await realtime.connect();
  assert.equal(realtime.userId, 'bob');
});

test('the personal channel of the user before ends without an error', async (t) => {
  const { server, realtime } = await connected(t, { token: 'token-of-ann' });
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  server.socket.say({ type: 'subscription_succeeded', channel: 'user:ann', recovered: false });
  const friendly = server.onCommand;
  server.onCommand = (socket, command) =>
    command.type === 'authenticate' && socket === server.sockets[0]
      ? socket.say({ type: 'error', id: command.id, code: 4314, error: 'a connection cannot change its user', retry: false })
      : friendly(socket, command);
  realtime.setToken('token-of-bob');
  await server.until(() => realtime.userId === 'bob');
  assert.equal(realtime.channel('user:ann').state, 'closed');
  assert.deepEqual(errors, []);
});
