import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { connected, pair, turn } from './support/client.mjs';
import { FakeServer } from './support/fake-server.mjs';

/** A page: what may be listened to, until the test is over. */
function page(t) {
  const document = new EventTarget();
  document.hidden = false;
  const window = new EventTarget();
  const counts = { listeners: 0 };
  for (const target of [window, document]) {
    const { addEventListener, removeEventListener } = target;
    target.addEventListener = (...values) => {
      counts.listeners += 1;
      addEventListener.apply(target, values);
    };
    target.removeEventListener = (...values) => {
      counts.listeners -= 1;
      removeEventListener.apply(target, values);
    };
  }
  const before = ['document', 'addEventListener', 'removeEventListener'].map((name) => [name, globalThis[name]]);
  Object.assign(globalThis, {
    document,
    addEventListener: window.addEventListener,
    removeEventListener: window.removeEventListener,
  });
  t.after(() => {
    for (const [name, value] of before) {
      globalThis[name] = value;
    }
  });
  const dispatch = (target, kind, persisted = false) => target.dispatchEvent(Object.assign(new Event(kind), { persisted }));
  return {
    document,
    counts,
    onWindow: (kind, persisted) => dispatch(window, kind, persisted),
    onDocument: (kind) => dispatch(document, kind),
  };
}

test('a network that is gone makes attempts rare, one that is back is tried at once', async (t) => {
  const { onWindow } = page(t);
  const server = new FakeServer();
  server.onSocket = (socket) => socket.drop();
  const { realtime } = pair(t, { server, backoff: { min: 1, max: 600_000 } });
  await server.until(() => realtime.status.retryAt !== null);
  onWindow('offline');
  assert.equal(realtime.state, 'offline');
  assert.ok(realtime.status.retryAt > Date.now() + 200_000);
  server.onSocket = (socket) => socket.accept();
  onWindow('online');
  await server.until(() => realtime.state === 'connected');
  assert.equal(realtime.status.attempt, 0);
});

test('a network that is said to be gone and is not keeps no client away', async (t) => {
  const { onWindow } = page(t);
  const { server, realtime } = pair(t, { backoff: { min: 1, max: 20 }, autoConnect: false });
  server.onSocket = (socket) => (server.sockets.length < 4 ? socket.drop() : socket.accept());
  onWindow('offline');
  await realtime.connect();
  assert.equal(server.sockets.length, 4);
  // The answer to the question whether it still lives says more than the hint: what comes next is not `offline`.
  const states = [];
  realtime.on('status', ({ state }) => states.push(state));
  onWindow('offline');
  await server.command('ping');
  server.socket.drop();
  await server.until(() => states.includes('connected'));
  assert.deepEqual(states.filter((state) => state === 'offline'), []);
});

test('a connection that is open is asked for a sign of life', async (t) => {
  const { onWindow, onDocument, document } = page(t);
  const { server } = await connected(t);
  const pings = () => server.socket.commands.filter(({ type }) => type === 'ping').length;
  onWindow('offline');
  onWindow('online');
  onDocument('visibilitychange');
  onDocument('resume');
  assert.equal(pings(), 4);
  document.hidden = true;
  onDocument('visibilitychange');
  onWindow('pageshow');
  onWindow('pagehide');
  assert.equal(pings(), 4);
});

test('a page that goes into the cache lets go of its connection, and comes back', async (t) => {
  const { onWindow } = page(t);
  const { server, realtime } = await connected(t);
  onWindow('pagehide', true);
  assert.equal(realtime.state, 'offline');
  assert.ok(server.socket.closedWith);
  onWindow('pageshow', true);
  await server.until(() => realtime.state === 'connected');
  assert.equal(realtime.status.resumed, true);
});

test('page events can be ignored', async (t) => {
  const { onWindow, counts } = page(t);
  const { realtime } = await connected(t, { lifecycle: false });
  onWindow('pagehide', true);
  assert.equal(realtime.state, 'connected');
  assert.equal(counts.listeners, 0);
});

test('a closed client leaves nothing behind', async (t) => {
  const { counts } = page(t);
  const timers = new Set();
  const { setTimeout, clearTimeout } = globalThis;
  const { server, realtime } = pair(t, { linger: 0, autoConnect: false });
  await import('@fanfare/client').then(({ init }) => init());
  globalThis.setTimeout = (act, wait) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      act();
    }, wait);
    timers.add(timer);
    return timer;
  };
  globalThis.clearTimeout = (timer) => {
    timers.delete(timer);
    clearTimeout(timer);
  };
  t.after(() => Object.assign(globalThis, { setTimeout, clearTimeout }));
  const isConnected = new Promise((resolve) => realtime.on('connected', resolve));
  realtime.connect();
  await isConnected;
  assert.equal(timers.size, 1, 'one timer, whatever is waited for');
  assert.ok(counts.listeners > 0);
  const waits = [realtime.channel('c').once('e'), realtime.channel('c').ready(), realtime.channel('c').messages('e').next()];
  realtime.close();
  assert.deepEqual([timers.size, counts.listeners], [0, 0]);
  for (const { reason } of await Promise.allSettled(waits)) {
    assert.equal(reason.code, 'closed');
  }
  assert.deepEqual([timers.size, counts.listeners], [0, 0], 'nothing lingers for what waited');
  const { socket } = server;
  assert.ok(socket.closedWith && socket.onmessage === null && socket.onclose === null);
});

test('an earlier socket is not listened to', async (t) => {
  const { server, realtime } = await connected(t);
  const [early] = server.sockets;
  const { onmessage, onclose } = early;
  realtime.disconnect();
  await realtime.connect();
  onmessage({ data: '{"type":"disconnect","code":4000,"reason":"","reconnect":false,"after":0}' });
  onclose({ code: 4001, reason: 'late' });
  await turn();
  assert.equal(realtime.state, 'connected');
});

test('a class that throws is a connection that could not be made', async (t) => {
  const WebSocket = class {
    constructor() {
      throw new SyntaxError('no such address');
    }
  };
  const { realtime } = pair(t, { server: { WebSocket }, backoff: { min: 60_000, max: 60_000 } });
  const status = await new Promise((resolve) => realtime.on('status', (status) => status.error && resolve(status)));
  assert.equal(status.code, 1006);
  assert.equal(status.reason, 'no such address');
});

test('what is not of this protocol is an error, and no more than that', async (t) => {
  const { server, realtime } = await connected(t);
  const errors = [];
  realtime.on('error', ({ code }) => errors.push(code));
  for (const frame of ['{', 'null', '[null]', '{"type":"event"}', '{"type":7}', '[]', '[{"type":"weather"}]']) {
    server.socket.sayText(frame);
  }
  assert.deepEqual(errors, Array(5).fill('protocol'));
  assert.equal(realtime.state, 'connected');
});

test('a socket that speaks while it is spoken to is heard in order', async (t) => {
  const { server, realtime } = await connected(t);
  const heard = [];
  realtime.channel('c').on('*', (data) => {
    heard.push(data);
    if (data === 1) {
      server.socket.event('c', 'e', 3);
      heard.push('end of 1');
    }
  });
  await realtime.channel('c').ready();
  server.socket.say(...[1, 2].map((data) => ({ type: 'event', channel: 'c', event: 'e', data })));
  assert.deepEqual(heard.slice(0, 2), [1, 'end of 1']);
  assert.deepEqual(heard.slice(2).sort(), [2, 3]);
});

test('an endpoint says when to ask again', async (t) => {
  const asked = [];
  const http = createServer((_, response) => {
    asked.push(performance.now());
    response.writeHead(asked.length === 1 ? 429 : 200, { 'retry-after': '1' });
    response.end('{"auth":"x"}');
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  const { realtime } = await connected(t, { auth: { endpoint: `http://127.0.0.1:${http.address().port}/` } });
  realtime.channel('private-x').on('e', () => {});
  await realtime.channel('private-x').ready();
  assert.equal(asked.length, 2);
  assert.ok(asked[1] - asked[0] >= 990, `${asked[1] - asked[0]} ms`);
});
