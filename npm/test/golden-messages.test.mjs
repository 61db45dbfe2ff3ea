import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RealtimeError } from '@fanfare/client';
import { countTo, frames, silent } from './support/golden.mjs';
import { position } from './support/fake-server.mjs';

const ROOM = 'presence-chat.room-1';

/** A client whose command with this number subscribes to a channel; what the channel says is kept in `heard`. */
async function subscribing(t, name, { number = 1, auth, options = {}, greeting } = {}) {
  const { server, realtime } = await silent(t, { auth, greeting });
  await countTo(server, realtime, number);
  const heard = [];
  const channel = realtime.channel(name);
  realtime.subscribe(name, '*', (data, meta) => heard.push({ data, ...meta }), options);
  channel.onGap((gap) => heard.push(gap));
  for (const event of ['sync', 'join', 'update', 'leave']) {
    channel.presence.on(event, (...values) => heard.push([event, ...values]));
  }
  channel.onState((state, _, error) => heard.push(error === null ? state : `${state}: ${error.code}`));
  await server.until(() => server.socket.commands.some(({ type }) => type === 'subscribe'));
  heard.length = 0;
  return { server, realtime, channel, heard };
}

/** The same, confirmed. */
async function subscribedTo(t, name, { at, members, ...more } = {}) {
  const all = await subscribing(t, name, more);
  all.server.socket.say({
    type: 'subscription_succeeded',
    id: all.server.socket.commands.at(-1).id,
    channel: name,
    position: at,
    recovered: false,
    presence: members && { count: members.length, members },
  });
  all.heard.length = 0;
  return all;
}

/** What the API makes of one message. */
function message(channel, event, data, more = {}) {
  return {
    channel,
    event,
    data,
    id: undefined,
    offset: undefined,
    epoch: undefined,
    tag: undefined,
    recovered: false,
    from: undefined,
    ...more,
  };
}

/** Feeds the frame and compares what the channel said. */
function hears(name, options, expected) {
  return async (t, text) => {
    const { server, heard } = await subscribedTo(t, name, options);
    server.socket.sayText(text);
    assert.deepEqual(heard, expected);
  };
}

/** Feeds the frame as the answer to a request. */
function answers(number, ask, check) {
  return async (t, text) => {
    const { server, realtime } = await silent(t);
    await countTo(server, realtime, number);
    const answer = ask(realtime).then(
      (value) => ({ value }),
      (error) => ({ error }),
    );
    await server.until(() => server.socket.commands.length === number);
    server.socket.sayText(text);
    check(await answer);
  };
}

const EPOCH = { epoch: '5f3a' };
const ORDERS_AT_12 = { at: position(12) };

const SCRIPTS = {
  batch: {
    'one message may still come alone': pongIsHeard,
    'several messages in one frame': hears('orders', ORDERS_AT_12, [
      message('orders', 'order.created', { order: 7 }, { offset: 13, tag: 'b7', ...EPOCH }),
      message('orders', 'order.paid', [], { offset: 14, tag: 'c8', ...EPOCH }),
    ]),
    'messages of different kinds': async (t, text) => {
      const { server, heard } = await subscribing(t, 'org:abc123', { number: 2 });
      server.socket.sayText(text);
      assert.deepEqual(heard, ['subscribed', message('org:abc123', 'resource.updated', { id: 1 })]);
    },
    'one message in an array': pongIsHeard,
  },
  connected: {
    'nobody is authenticated yet': greets(null),
    'the handshake said who it is': greets('auth0|7'),
    'what the connection may ask for': greets('auth0|7'),
    'a server that does not limit bytes': greets('auth0|7'),
  },
  disconnect: {
    'the server goes away, another one takes over': async (t, text) => {
      const { server, realtime } = await silent(t);
      const told = new Promise((resolve) => realtime.on('disconnected', resolve));
      server.socket.sayText(text);
      server.socket.drop(4200, 'the server is shutting down');
      const why = await told;
      assert.deepEqual(why, { code: 4200, reason: 'the server is shutting down', willReconnect: true });
      const wait = realtime.status.retryAt - Date.now();
      assert.ok(wait > 1000 && wait <= 1250, `it comes back in ${wait} ms`);
    },
    'for good': async (t, text) => {
      const { server, realtime } = await silent(t);
      server.socket.sayText(text);
      server.socket.drop(4005, 'the application ended this connection');
      await server.until(() => realtime.state === 'failed');
      assert.equal(realtime.status.code, 4005);
      assert.equal(realtime.status.retryAt, null);
    },
  },
  error: {
    'a command was refused': answers(10, (rt) => rt.channel('c').publish('x', 1), ({ error }) => {
      assert.ok(error instanceof RealtimeError);
      const { code, serverCode, message, retryable } = error;
      assert.deepEqual({ code, serverCode, message, retryable }, {
        code: 'publish-rejected',
        serverCode: 4311,
        message: 'clients may not publish here',
        retryable: false,
      });
    }),
    'a command may be repeated later': async (t, text) => {
      const { server, realtime } = await silent(t);
      await countTo(server, realtime, 10);
      const answer = realtime.channel('c').publish('x', 1);
      await server.until(() => server.socket.commands.length === 10);
      const start = performance.now();
      server.socket.sayText(text);
      await server.until(() => server.socket.commands.length === 11);
      assert.ok(performance.now() - start > 240, 'not before it makes sense');
      assert.equal(server.socket.frames[10], server.socket.frames[9]);
      server.socket.say({ type: 'ok', id: 10 });
      assert.deepEqual(await answer, { position: null });
    },
    'a frame without an id could not be read': async (t, text) => {
      const { server, realtime } = await silent(t);
      const errors = [];
      realtime.on('error', (error) => errors.push(error));
      server.socket.sayText(text);
      assert.equal(errors.length, 1);
      assert.equal(errors[0].serverCode, 4300);
    },
    'members may not change their info here': answers(17, (rt) => rt.channel('c').publish('x', 1), ({ error }) => {
      assert.equal(error.serverCode, 4330);
      assert.equal(error.retryable, false);
    }),
  },
  event: {
    'a channel without history': hears('org:abc123', {}, [message('org:abc123', 'resource.updated', { id: 1 })]),
    'a channel with history': hears('orders', ORDERS_AT_12, [
      message('orders', 'order.created', { order: 7 }, { offset: 13, tag: 'b7', ...EPOCH }),
    ]),
    'the first message of a new epoch': asksAgain('orders', ORDERS_AT_12),
    'a client event says who sent it': hears(ROOM, { at: position(14) }, [
      message(ROOM, 'typing', { on: true }, { offset: 15, tag: 'e0', ...EPOCH, from: { id: '42' } }),
    ]),
    'from the event bus': hears('orders', {}, [message('orders', 'order.paid', { order: 7 }, { id: '01J8Z3K5M2' })]),
    'everything at once, with the largest numbers': hears(
      'orders',
      { at: { epoch: 'ffffffffffffffff', offset: 9007199254740990, tag: '1' } },
      [
        message('orders', 'x', '', {
          offset: 9007199254740991,
          epoch: 'ffffffffffffffff',
          tag: 'ffffffffffffffff',
          id: '01J8Z3K5M2',
          from: { id: 'ann@example.org' },
        }),
      ],
    ),
    'a member came': hears(ROOM, { at: position(15), members: [] }, [['join', { id: '42', info: { name: 'Ann' } }]]),
    "a member's info changed": hears(ROOM, { at: position(16), members: [{ id: '42', info: { name: 'Ann' } }] }, [
      ['update', { id: '42', info: { name: 'Ann', status: 'away' } }],
    ]),
    'a member left': hears(ROOM, { at: position(17), members: [{ id: '42', info: { name: 'Ann' } }] }, [
      ['leave', { id: '42', info: { name: 'Ann' } }, 'left'],
    ]),
    'payload of any kind: null': hears('c', {}, [message('c', 'e', null)]),
    'payload of any kind: a number that no one rounds': hears('c', {}, [message('c', 'e', 12345678901234567000)]),
    'payload of any kind: text beyond ASCII': async (t, text) => {
      const { server, heard } = await subscribedTo(t, 'c');
      server.socket.sayText(text);
      assert.equal(heard[0].data, JSON.parse(text).data);
    },
    'an event name with quotes': hears('c', {}, [message('c', 'say "hi" \\', 0)]),
    'a user id beyond ASCII': hears('c', {}, [message('c', 'e', 0, { from: { id: 'Zoë ☎' } })]),
  },
  gap: {
    'messages were lost, nobody knows which': hears('org:abc123', {}, [
      {
        channel: 'org:abc123',
        kind: 'gap',
        from: null,
        to: null,
        reason: 'the server lost its connection to the engine',
      },
    ]),
    "messages were dropped by the channel's policy": hears('orders', ORDERS_AT_12, [
      { channel: 'orders', kind: 'gap', from: 13, to: 15, reason: 'this connection reads too slowly' },
    ]),
  },
  ok: {
    'nothing more to say': answers(1, (rt) => rt.channel('c').publish('x', 1), ({ value }) => {
      assert.deepEqual(value, { position: null });
    }),
    authenticate: identifies('42'),
    'authenticate with a token that does not end': identifies('ann@example.org'),
    'publish on a channel with history': answers(10, (rt) => rt.channel('orders').publish('x', 1), ({ value }) => {
      assert.deepEqual(value, { position: { epoch: '5f3a', offset: 13, tag: 'b7' } });
    }),
    emit: answers(13, (rt) => rt.emit('order.created', {}), ({ value }) => {
      assert.deepEqual(value, { eventId: '01J8Z3K5M2' });
    }),
    presence: answers(15, (rt) => rt.channel(ROOM).presence.fetch(), ({ value }) => {
      assert.deepEqual(value, { members: [{ id: '42', info: { name: 'Ann' } }, { id: '43', info: null }], count: 2 });
    }),
    'presence of an empty channel without history': answers(15, (rt) => rt.channel(ROOM).presence.fetch(), ({ value }) => {
      assert.deepEqual(value, { members: [], count: 0 });
    }),
    'presence with more members than are told': answers(15, (rt) => rt.channel(ROOM).presence.fetch(), ({ value }) => {
      assert.deepEqual(value, { members: [{ id: '42', info: {} }], count: 1200 });
    }),
    history: answers(16, (rt) => rt.channel('orders').history(), ({ value }) => {
      assert.deepEqual(value, {
        messages: [
          message('orders', 'order.created', { order: 7 }, { offset: 13, tag: 'b7', ...EPOCH, recovered: true }),
          message('orders', 'order.paid', null, { offset: 14, tag: 'c8', ...EPOCH, recovered: true, id: '01J8Z3K5M2' }),
        ],
        position: { epoch: '5f3a', offset: 14, tag: 'c8' },
        next: null,
      });
    }),
    'history without events': answers(16, (rt) => rt.channel('orders').history(), ({ value }) => {
      assert.deepEqual(value, { messages: [], position: { epoch: '5f3a', offset: 0, tag: '0' }, next: null });
    }),
  },
  pong: { "the server's time": pongIsHeard },
  reset: {
    'history no longer continues what the client has': async (t, text) => {
      const { server, heard, channel } = await subscribedTo(t, 'orders', ORDERS_AT_12);
      server.socket.sayText(text);
      assert.deepEqual(heard, [
        { channel: 'orders', kind: 'reset', from: null, to: null, reason: "the channel's history was lost" },
      ]);
      assert.deepEqual(channel.position, { epoch: '6b', offset: 3, tag: 'd9' });
    },
  },
  skipped: {
    'an event that excluded this connection': async (t, text) => {
      const { server, heard, channel } = await subscribedTo(t, 'orders', { at: position(14) });
      server.socket.sayText(text);
      assert.deepEqual(heard, []);
      assert.deepEqual(channel.position, { epoch: '5f3a', offset: 15, tag: 'e0' });
    },
    'in a new epoch': asksAgain('orders', ORDERS_AT_12),
  },
  subscription_error: {
    'the authorizer said no': async (t, text) => {
      const { server, heard, channel } = await subscribing(t, 'private-user.123', { number: 3 });
      server.socket.sayText(text);
      assert.deepEqual(heard, ['failed: subscribe-rejected']);
      assert.equal(channel.error.serverCode, 4302);
      assert.equal(channel.error.channel, 'private-user.123');
      assert.equal(channel.error.message, 'not allowed');
    },
    'worth another try': async (t, text) => {
      const { server, channel } = await subscribing(t, 'private-user.123', { number: 3 });
      await server.command('subscribe');
      server.socket.sayText(text);
      const again = await server.command('subscribe');
      assert.equal(again.channel, 'private-user.123');
      assert.equal(channel.state, 'subscribing');
    },
    'worth another try, and when': async (t, text) => {
      const { server, channel } = await subscribing(t, 'private-user.123', { number: 3 });
      await server.command('subscribe');
      const start = performance.now();
      server.socket.sayText(text);
      await server.command('subscribe');
      assert.ok(performance.now() - start > 990, 'not before it makes sense');
      assert.equal(channel.state, 'subscribing');
    },
    'members may not change their info here': async (t, text) => {
      const { server, channel } = await subscribing(t, ROOM, { number: 5 });
      server.socket.sayText(text);
      assert.equal(channel.error.serverCode, 4330);
    },
  },
  subscription_succeeded: {
    'a channel without history': async (t, text) => {
      const { server, heard, channel } = await subscribing(t, 'org:abc123', { number: 2 });
      server.socket.sayText(text);
      assert.deepEqual(heard, ['subscribed']);
      assert.equal(channel.position, null);
    },
    'a channel with history': async (t, text) => {
      const { server, heard, channel } = await subscribing(t, 'orders', { number: 6 });
      server.socket.sayText(text);
      assert.deepEqual(heard, ['subscribed']);
      assert.deepEqual(channel.position, { epoch: '5f3a', offset: 12, tag: 'a1' });
    },
    'recovered: the missed events are included': async (t, text) => {
      const since = { epoch: '5f3a', offset: 12, tag: 'a1' };
      const { server, heard, channel } = await subscribing(t, 'orders', { number: 6, options: { since } });
      server.socket.sayText(text);
      assert.deepEqual(heard, [
        'subscribed',
        message('orders', 'order.created', { order: 7 }, { offset: 13, tag: 'b7', ...EPOCH, recovered: true }),
        message('orders', 'order.paid', [1, 2], { offset: 14, tag: 'c8', ...EPOCH, recovered: true }),
      ]);
      assert.deepEqual(channel.position, { epoch: '5f3a', offset: 14, tag: 'c8' });
    },
    'nothing was missed': async (t, text) => {
      const since = { epoch: '5f3a', offset: 12, tag: 'a1' };
      const { server, heard } = await subscribing(t, 'orders', { number: 6, options: { since } });
      server.socket.sayText(text);
      assert.deepEqual(heard, ['subscribed']);
    },
    'a presence channel': async (t, text) => {
      const { server, channel, heard } = await subscribing(t, ROOM, { number: 4 });
      server.socket.sayText(text);
      const members = [{ id: '42', info: { name: 'Ann' } }, { id: 'auth0|7', info: {} }];
      assert.deepEqual(heard, ['subscribed', ['sync', new Map(members.map((member) => [member.id, member]))]]);
      assert.equal(channel.presence.count, 2);
      assert.equal(channel.presence.synced, true);
      assert.deepEqual(channel.presence.me, { id: '42', info: { name: 'Ann' } });
    },
    'a presence channel, once more from a position': async (t, text) => {
      const { server, channel } = await subscribing(t, ROOM, { number: 5 });
      server.socket.sayText(text);
      assert.equal(channel.presence.synced, true);
      assert.equal(channel.presence.me, null, 'nobody has said who this is');
    },
    'by the server: the personal channel': async (t, text) => {
      const { server, realtime } = await silent(t, { greeting: { user_id: 'auth0|7' } });
      server.socket.sayText(text);
      const channel = realtime.channel('user:auth0=7C7');
      assert.equal(channel.state, 'subscribed');
      const heard = [];
      channel.on('note', (data) => heard.push(data));
      server.socket.event('user:auth0=7C7', 'note', 'hello');
      assert.deepEqual(heard, ['hello']);
      assert.deepEqual(server.commands, [], 'the server did it all');
    },
  },
  unsubscribed: {
    'asked for': async (t, text) => {
      const { server, realtime, channel } = await subscribedTo(t, 'org:abc123', { number: 8 });
      const error = [];
      realtime.on('error', (it) => error.push(it));
      channel.unsubscribe();
      assert.equal((await server.command('unsubscribe')).id, 9);
      server.socket.sayText(text);
      assert.equal(channel.state, 'idle');
      assert.deepEqual(error, []);
    },
    'removed by the server': async (t, text) => {
      const { server, heard, channel } = await subscribedTo(t, 'private-user.123');
      server.socket.sayText(text);
      assert.deepEqual(heard, ['closed: subscribe-rejected']);
      assert.equal(channel.error.serverCode, 4318);
    },
  },
};

async function pongIsHeard(t, text) {
  const { server, realtime, heard } = await subscribedTo(t, 'c');
  const errors = [];
  realtime.on('error', (error) => errors.push(error));
  realtime.reconnectNow();
  await server.command('ping');
  server.socket.sayText(text);
  server.socket.event('c', 'e', 1);
  assert.equal(heard.length, 1);
  assert.deepEqual(errors, []);
  assert.equal(realtime.state, 'connected');
}

function greets(userId) {
  return async (t, text) => {
    const { server, realtime } = await silent(t, { autoConnect: false, lifecycle: false });
    server.onSocket = (socket) => {
      socket.open();
      socket.sayText(text);
    };
    const told = [];
    realtime.on('connected', (connection) => told.push(connection));
    await realtime.connect();
    assert.deepEqual(told, [{ socketId: '0f1e2d3c4b5a69788796a5b4c3d2e1f0', resumed: false }]);
    assert.equal(realtime.userId, userId);
  };
}

function identifies(userId) {
  return async (t, text) => {
    const { server, realtime } = await silent(t, { token: 'secret' });
    await server.command('authenticate');
    assert.equal(realtime.state, 'connecting');
    server.socket.sayText(text);
    assert.equal(realtime.state, 'connected');
    assert.equal(realtime.userId, userId);
  };
}

function asksAgain(name, options) {
  return async (t, text) => {
    const { server, heard } = await subscribedTo(t, name, options);
    await server.command('subscribe');
    server.socket.sayText(text);
    const { id } = await server.command('unsubscribe');
    server.socket.say({ type: 'unsubscribed', id, channel: name, code: 1000, reason: '' });
    const again = await server.command('subscribe');
    assert.deepEqual(again.since, options.at);
    assert.deepEqual(heard.filter((it) => typeof it !== 'string'), [], 'nothing of it was handed out');
  };
}

for (const { file, about, text } of frames('server')) {
  test(`${file}: ${about}`, async (t) => {
    const script = SCRIPTS[file]?.[about];
    assert.ok(script, 'no script for this golden frame');
    await script(t, text);
  });
}

test('no script is left over from a golden frame that is gone', () => {
  const known = frames('server').map(({ file, about }) => `${file}: ${about}`);
  const scripts = Object.entries(SCRIPTS).flatMap(([file, all]) => Object.keys(all).map((about) => `${file}: ${about}`));
  assert.deepEqual(scripts.filter((name) => !known.includes(name)), []);
});
