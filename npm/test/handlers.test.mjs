import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connected, pair, reported, subscribed } from './support/client.mjs';
import { FakeServer, position } from './support/fake-server.mjs';

test('a handler that throws is reported and disturbs nobody', async (t) => {
  const errors = reported(t);
  const { server, realtime, channel } = await subscribed(t, 'c');
  const heard = [];
  const fail = (what) => () => {
    throw new Error(what);
  };
  channel.on('e', fail('message'));
  channel.on('e', (data) => heard.push(data));
  channel.onState(fail('state'));
  channel.onGap(fail('gap'));
  channel.presence.on('join', fail('join'));
  for (const event of ['status', 'connected', 'disconnected', 'gap', 'error']) {
    realtime.on(event, fail(event));
  }
  realtime.subscribeStatus(fail('change'));
  server.socket.event('c', 'e', 1);
  server.socket.event('c', 'member_added', { id: 'ann', info: null });
  server.socket.say({ type: 'error', code: 4300, error: 'x', retry: false });
  server.socket.drop();
  await server.until(() => errors.some(({ message }) => message === 'gap'));
  server.socket.event('c', 'e', 2);
  assert.deepEqual(heard, [1, 2]);
  const seen = new Set(errors.map(({ message }) => message));
  const expected = ['message', 'state', 'gap', 'join', 'status', 'connected', 'disconnected', 'error', 'change'];
  assert.deepEqual(expected.filter((what) => !seen.has(what)), []);
  assert.equal(realtime.state, 'connected');
  realtime.close();
});

test('handlers may call everything, in every event', async (t) => {
  const errors = reported(t);
  const { server, realtime } = pair(t, { autoConnect: false });
  const done = [];
  realtime.on('connected', () => {
    if (done.length === 0) {
      done.push('connected');
      realtime.subscribe('a', 'e', onMessage);
      realtime.channel('b').publish('e', 1).then(() => done.push('published'));
      realtime.reconnectNow();
    }
  });
  const onMessage = (data) => {
    done.push(`message ${data}`);
    realtime.channel('a').unsubscribe();
    realtime.subscribe('b', 'e', () => {});
    realtime.setToken('token-of-ann');
    realtime.channel('b').onState((state) => {
      if (state === 'subscribed' && !done.includes('again')) {
        done.push('again');
        realtime.disconnect();
        realtime.connect();
      }
    });
  };
  await realtime.connect();
  await realtime.channel('a').ready();
  server.socket.event('a', 'e', 1);
  server.socket.event('a', 'e', 2);
  await server.until(() => done.includes('again') && realtime.state === 'connected');
  await realtime.channel('b').ready();
  assert.deepEqual(done.filter((it) => it.startsWith('message')), ['message 1']);
  assert.ok(done.includes('published'));
  assert.deepEqual(errors, []);
});

test('a handler may close the client in the middle of a batch', async (t) => {
  const errors = reported(t);
  const { server, realtime, channel } = await subscribed(t, 'c', { position: position(0) });
  const heard = [];
  channel.on('e', (data) => {
    heard.push(data);
    realtime.close();
  });
  server.socket.say(
    { type: 'event', channel: 'c', event: 'e', data: 1, offset: 1, tag: 'a1' },
    { type: 'event', channel: 'c', event: 'e', data: 2, offset: 2, tag: 'a2' },
  );
  assert.deepEqual(heard, [1]);
  assert.deepEqual(errors, []);
});

test('who is removed during a round is not called in it, who is added is called in the next', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  const heard = [];
  channel.on('e', () => {
    heard.push('first');
    off();
    if (heard.length === 1) {
      channel.on('e', () => heard.push('late'));
    }
  });
  const off = channel.on('e', () => heard.push('removed'));
  server.socket.event('c', 'e', 1);
  assert.deepEqual(heard, ['first']);
  server.socket.event('c', 'e', 2);
  assert.deepEqual(heard, ['first', 'first', 'late']);
});

test('connecting and disconnecting inside of status handlers settles', async (t) => {
  const { server, realtime } = await connected(t);
  let rounds = 0;
  realtime.on('disconnected', () => {
    rounds += 1;
    if (rounds < 3) {
      realtime.connect();
    }
  });
  realtime.on('connected', () => realtime.disconnect());
  realtime.disconnect();
  await server.until(() => rounds === 3);
  assert.equal(realtime.state, 'disconnected');
  assert.equal(server.sockets.length, 3);
});

test('the order of messages and state changes is the order of the wire', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'c', { position: position(1) });
  const heard = [];
  channel.on('e', (data, { recovered }) => heard.push(`${data}${recovered ? ' recovered' : ''}`));
  channel.onState((state) => heard.push(state));
  server.onCommand = (socket, { type, id }) => {
    if (type === 'subscribe') {
      const events = [{ event: 'e', data: 'missed', offset: 2, tag: 'a2' }];
      socket.say(
        { type: 'subscription_succeeded', id, channel: 'c', position: position(2), recovered: true, events },
        { type: 'event', channel: 'c', event: 'e', data: 'live', offset: 3, tag: 'a3' },
      );
    }
  };
  server.socket.drop();
  await server.until(() => heard.includes('live'));
  assert.deepEqual(heard, ['suspended', 'subscribing', 'subscribed', 'missed recovered', 'live']);
  assert.equal(realtime.status.resumed, true);
});

test('a handler may leave its channel while it is being subscribed', async (t) => {
  const { server, realtime } = await connected(t);
  const channel = realtime.channel('c');
  const states = [];
  channel.onState((state) => {
    states.push(state);
    channel.unsubscribe();
  });
  const other = realtime.channel('d');
  other.on('e', () => {});
  await other.ready();
  assert.deepEqual(states, ['subscribing', 'idle']);
  assert.deepEqual(server.commands.map(({ type, channel }) => [type, channel]), [['subscribe', 'd']]);
  assert.equal(channel.state, 'idle');
});

test('whatever a server says while a handler runs is heard after it, in order', async (t) => {
  const { server, channel } = await subscribed(t, 'c');
  server.socket.event('c', 'e', 'the name is known from here on');
  const heard = [];
  channel.on('e', (data) => {
    heard.push(data);
    if (data === 1) {
      server.socket.event('c', 'e', 2);
      server.socket.say({ type: 'weather' }, { type: 'event', channel: 'c', event: 'e', data: 3 });
      server.socket.event('c', 'e', 4);
    }
    if (data === 3) {
      server.socket.event('c', 'e', 5);
    }
  });
  server.socket.event('c', 'e', 1);
  assert.deepEqual(heard, [1, 2, 3, 4, 5]);
});

test('what a socket said while a handler ran is not taken for the word of the next one', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'c');
  const complaints = [];
  realtime.on('error', ({ message }) => complaints.push(message));
  channel.on('e', () => {
    server.socket.say({ type: 'disconnect', code: 4001, reason: 'for ever', reconnect: false });
    realtime.disconnect();
    realtime.connect();
  });
  server.socket.event('c', 'e', 1);
  await server.until(() => channel.state === 'subscribed' || realtime.state === 'failed');
  assert.deepEqual([realtime.state, server.sockets.length, complaints], ['connected', 2, []]);
});

test('a request that is taken back while an earlier one is sent is not sent', async (t) => {
  const abort = new AbortController();
  const server = new FakeServer();
  server.onSocket = () => {};
  class Prompt extends server.WebSocket {
    constructor(...values) {
      super(...values);
      // Set last of all handlers: what was asked before the load is sent in the turn in which there is a machine.
      Object.defineProperty(this, 'onerror', { set: () => this.accept() });
    }
  }
  const debug = ({ kind }) => kind === 'frame-out' && abort.abort();
  const { realtime } = pair(t, { server, WebSocket: Prompt, debug });
  const first = realtime.channel('a').publish('e', 1);
  const second = realtime.channel('b').publish('e', 2, { signal: abort.signal });
  await assert.rejects(second, { code: 'aborted' });
  await first;
  assert.deepEqual(server.commands.map(({ channel }) => channel), ['a']);
});

test('connect() and ready() in a handler wait for the connection that comes after disconnect()', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'list', { position: position(0) });
  const old = realtime.socketId;
  const waited = new Promise((resolve) => {
    channel.on('n', () => {
      realtime.disconnect();
      const both = [realtime.connect().then(() => realtime.socketId), channel.ready().then(() => realtime.socketId)];
      resolve(Promise.all(both));
    });
  });
  server.socket.event('list', 'n', 1, { offset: 1, tag: position(1).tag });
  const ids = await waited;
  assert.equal(server.sockets.length, 2);
  assert.deepEqual(ids, [server.socket.socketId, server.socket.socketId]);
  assert.notEqual(ids[0], old);
});

test('connect() in a handler that gives up again is rejected', async (t) => {
  const { server, realtime, channel } = await subscribed(t, 'list', { position: position(0) });
  let connecting;
  channel.on('n', () => {
    connecting = realtime.connect();
    realtime.disconnect();
  });
  server.socket.event('list', 'n', 1, { offset: 1, tag: position(1).tag });
  await assert.rejects(connecting, { code: 'closed' });
  const closing = realtime.connect();
  realtime.close();
  await assert.rejects(closing, { code: 'closed' });
});
