import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pair } from './support/client.mjs';
import { limits, position } from './support/fake-server.mjs';

const names = (count) => Array.from({ length: count }, (_, at) => `c-${String(at).padStart(4, '0')}`);

/** A client of a server with these limits, and its errors. */
function limited(t, greeting, options) {
  const { server, realtime } = pair(t, options);
  server.greeting = { limits: limits(greeting) };
  const errors = [];
  // The lost connection is an error of its own.
  realtime.on('error', (error) => error.code !== 'transport' && errors.push(error));
  return { server, realtime, errors };
}

/** The channels of all `subscribe` commands of a socket. */
const asked = (socket) =>
  socket.commands.filter(({ type }) => type === 'subscribe').flatMap(({ channel, channels }) => channels?.map((one) => one.channel) ?? [channel]);

test('thousands of channels come back in a few frames, and nobody hears an error', async (t) => {
  const { server, realtime, errors } = limited(t, { channels_max: 3000 });
  const channels = names(2500).map((name) => realtime.channel(name));
  for (const channel of channels) {
    channel.on('e', () => {});
  }
  await Promise.all(channels.map((channel) => channel.ready()));
  assert.ok(server.socket.commands.length < 200, `${server.socket.commands.length} commands`);
  server.socket.drop();
  await server.until(() => server.sockets.length === 2 && channels.every(({ state }) => state === 'subscribed'));
  assert.deepEqual(asked(server.socket).sort(), names(2500));
  assert.equal(server.socket.commands.length, 25);
  assert.deepEqual(errors, []);
});

test('what is wanted above the limit is one error each, and is back when there is room', async (t) => {
  const { server, realtime, errors } = limited(t, {});
  const channels = names(600).map((name) => realtime.channel(name));
  for (const channel of channels) {
    channel.on('e', () => {});
  }
  const live = () => channels.filter(({ state }) => state === 'subscribed');
  await server.until(() => errors.length === 500 && live().length === 100);
  assert.ok(errors.every(({ code, retryable }) => code === 'too-many-channels' && !retryable));
  await assert.rejects(channels.find(({ state }) => state === 'failed').ready(), { code: 'too-many-channels' });
  errors.length = 0;

  server.socket.drop();
  await server.until(() => server.sockets.length === 2 && live().length === 100);
  assert.equal(asked(server.socket).length, 100);
  live()[0].unsubscribe();
  await server.until(() => asked(server.socket).length === 101 && live().length === 100);
  assert.deepEqual(errors, [], 'neither coming back nor room is an error');
});

test('a list carries what each channel needs', async (t) => {
  const { server, realtime } = limited(t, {}, { auth: ({ channel }) => ({ auth: `signed ${channel}`, channel_data: '{}' }) });
  realtime.disconnect();
  const since = position(12);
  realtime.channel('orders').on('e', () => {}, { since });
  realtime.channel('news').on('e', () => {}, { rewind: 3 });
  realtime.channel('plain').on('e', () => {}, { data: { a: 'é' } });
  await realtime.connect();
  const { channels } = await server.command('subscribe');
  const byName = Object.fromEntries(channels.map((one) => [one.channel, one]));
  assert.deepEqual(byName, {
    orders: { channel: 'orders', since },
    news: { channel: 'news', rewind: 3 },
    plain: { channel: 'plain', data: { a: 'é' } },
  });
  realtime.channel('private-a').on('e', () => {});
  const { auth, channel_data } = await server.command('subscribe');
  assert.deepEqual({ auth, channel_data }, { auth: 'signed private-a', channel_data: '{}' });
});

test('no frame is larger than the server takes', async (t) => {
  const { server, realtime } = limited(t, { message_bytes_max: 2000 });
  realtime.disconnect();
  const channels = names(100).map((name) => realtime.channel(name.padEnd(150, 'x')));
  for (const channel of channels) {
    channel.on('e', () => {}, { data: 'é' });
  }
  await realtime.connect();
  await Promise.all(channels.map((channel) => channel.ready()));
  assert.equal(asked(server.socket).length, 100);
  assert.ok(server.socket.frames.every((frame) => Buffer.byteLength(frame) <= 2000));
});

test('a list that came too soon is repeated without an error', async (t) => {
  const { server, realtime, errors } = limited(t, {});
  realtime.disconnect();
  const channels = names(3).map((name) => realtime.channel(name));
  channels.forEach((channel) => channel.on('e', () => {}));
  const friendly = server.onCommand;
  let refusals = 0;
  server.onCommand = (socket, command) => {
    if (command.type === 'subscribe' && refusals < 3) {
      refusals += 1;
      const error = 'too many commands, slow down';
      socket.say({ type: 'error', id: command.id, code: 4307, error, retry: true, retry_after: 5 });
    } else {
      friendly(socket, command);
    }
  };
  await realtime.connect();
  await Promise.all(channels.map((channel) => channel.ready()));
  assert.equal(refusals, 3);
  assert.deepEqual(errors, []);
});
