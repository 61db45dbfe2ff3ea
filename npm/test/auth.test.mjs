import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { Realtime, UnauthorizedError } from '@fanfare/client';
import { connected } from './support/client.mjs';
import { FakeServer, limits } from './support/fake-server.mjs';

/** An auth endpoint; `answers` are taken one by one, the last again and again. */
async function endpoint(t, ...answers) {
  const requests = [];
  const http = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) {
      body += chunk;
    }
    requests.push({ url: request.url, headers: request.headers, body: JSON.parse(body) });
    const [status, value, headers = {}] = answers.length > 1 ? answers.shift() : answers[0];
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(value));
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  return { requests, url: `http://127.0.0.1:${http.address().port}/realtime/auth` };
}

test('private channels get their token from the endpoint', async (t) => {
  const { requests, url } = await endpoint(t, [200, { auth: 'v1.f3a1', channel_data: '{"user_id":"7"}' }]);
  const headers = async () => ({ 'x-csrf': 'token' });
  const { server, realtime } = await connected(t, { auth: { endpoint: url, headers } });
  await realtime.channel('presence-room').ready();
  const { auth, channel_data } = await server.command('subscribe');
  assert.deepEqual({ auth, channel_data }, { auth: 'v1.f3a1', channel_data: '{"user_id":"7"}' });
  assert.equal(requests.length, 1);
  assert.deepEqual(requests[0].body, { socket_id: server.socket.socketId, channel: 'presence-room' });
  assert.equal(requests[0].headers['x-csrf'], 'token');
  await realtime.channel('public').ready();
  assert.equal(requests.length, 1, 'public channels need none');
});

test('an endpoint without a host is one of the server where there is no page', async (t) => {
  const { requests, url } = await endpoint(t, [200, { auth: 'x' }]);
  const { port } = new URL(url);
  const server = new FakeServer();
  for (const [endpoint, path] of [['/my/auth', '/my/auth'], [undefined, '/ws/auth']]) {
    const realtime = new Realtime(`ws://127.0.0.1:${port}/ws`, { WebSocket: server.WebSocket, auth: { endpoint } });
    t.after(() => realtime.close());
    await realtime.channel('private-x').ready();
    assert.equal(requests.at(-1).url, path);
    realtime.close();
  }
});

test('a refusal fails the channel with its status', async (t) => {
  const { url } = await endpoint(t, [403, { error: 'no' }]);
  const { realtime } = await connected(t, { auth: { endpoint: url } });
  await assert.rejects(realtime.channel('private-x').ready(), { code: 'auth-forbidden', status: 403 });
  assert.equal(realtime.channel('private-x').state, 'failed');
});

test('an endpoint in trouble is asked again', async (t) => {
  const { requests, url } = await endpoint(t, [503, {}], [200, { auth: 'x' }]);
  const { realtime } = await connected(t, { auth: { endpoint: url } });
  await realtime.channel('private-x').ready();
  assert.equal(requests.length, 2);
});

test('a function can answer in place of the endpoint', async (t) => {
  const asked = [];
  const auth = async ({ signal, ...request }) => {
    asked.push({ ...request, aborted: signal.aborted });
    return { auth: 'mine' };
  };
  const { server, realtime } = await connected(t, { auth });
  realtime.channel('private-x').on('e', () => {});
  await realtime.channel('private-x').ready();
  assert.equal((await server.command('subscribe')).auth, 'mine');
  const { socketId } = realtime;
  assert.deepEqual(asked, [{ channel: 'private-x', socketId, reason: 'subscribe', aborted: false }]);
  server.socket.drop();
  await server.until(() => asked.length === 2);
  assert.equal(asked[1].reason, 'resubscribe');
  assert.notEqual(asked[1].socketId, socketId);
});

test('the function hears when its answer is no longer wanted', async (t) => {
  let signal;
  const auth = (request) => {
    signal = request.signal;
    return new Promise(() => {});
  };
  const { server, realtime } = await connected(t, { auth });
  const channel = realtime.channel('private-x');
  channel.on('e', () => {});
  await server.until(() => signal);
  channel.unsubscribe();
  assert.equal(signal.aborted, true);
});

test('an UnauthorizedError of the function is final, any other error is not', async (t) => {
  let asked = 0;
  const auth = () => {
    asked += 1;
    throw asked === 1 ? new Error('later') : new UnauthorizedError('no', { status: 401 });
  };
  const { realtime } = await connected(t, { auth });
  await assert.rejects(realtime.channel('private-x').ready(), { code: 'auth-forbidden', status: 401 });
  assert.equal(asked, 2);
});

/** An endpoint that knows lists, or not, and counts how many requests are open at once. */
async function counting(t, { knowsLists, status = 400, headers = {}, trouble }) {
  const seen = { requests: [], open: 0, most: 0, troubled: 0 };
  const http = createServer(async (request, response) => {
    if (trouble !== undefined && seen.troubled === 0) {
      seen.troubled += 1;
      typeof trouble === 'number' ? response.writeHead(trouble).end() : request.socket.destroy();
      return;
    }
    seen.open += 1;
    seen.most = Math.max(seen.most, seen.open);
    let body = '';
    for await (const chunk of request) {
      body += chunk;
    }
    const { channel, channels, socket_id } = JSON.parse(body);
    seen.requests.push({ url: request.url, names: channels ?? [channel], isList: channels !== undefined });
    await new Promise((resolve) => setTimeout(resolve, 1));
    const answerTo = (name) => {
      const [code] = /\d{4}$/.exec(name) ?? [];
      return name.startsWith('private-no-') ? { error: 'no', code: +code } : { auth: `${socket_id}:${name}` };
    };
    seen.open -= 1;
    const isRefused = channels !== undefined && !knowsLists;
    response.writeHead(isRefused ? status : 200, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(isRefused ? { error: 'which channel?' } : channels ? { channels: Object.fromEntries(channels.map((name) => [name, answerTo(name)])) } : answerTo(channel)));
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  return { ...{ seen, port: http.address().port }, url: `http://127.0.0.1:${http.address().port}/mine` };
}

/** A client of that endpoint that wants these channels. */
async function wanting(t, port, names, auth) {
  const server = new FakeServer();
  server.greeting = { limits: limits({ channels_max: 1000 }) };
  const realtime = new Realtime(`ws://127.0.0.1:${port}/ws`, { WebSocket: server.WebSocket, auth, backoff: { min: 1, max: 2 } });
  t.after(() => realtime.close());
  const channels = names.map((name) => realtime.channel(name));
  channels.forEach((channel) => channel.on('e', () => {}));
  return { server, realtime, channels };
}

const PRIVATE = Array.from({ length: 500 }, (_, at) => `private-${String(at).padStart(3, '0')}`);

/** The channels that were asked for, in order of their names. */
const named = ({ requests }) => requests.flatMap(({ names }) => names).sort();

test('500 private channels are five requests to the own endpoint, after a reconnect too', async (t) => {
  const { seen, port } = await counting(t, { knowsLists: true });
  const { server, channels } = await wanting(t, port, PRIVATE, {});
  await Promise.all(channels.map((channel) => channel.ready()));
  assert.equal(seen.requests.length, 5);
  assert.ok(seen.requests.every(({ url, isList }) => isList && url === '/ws/auth'));
  assert.deepEqual(named(seen), PRIVATE);
  seen.requests.length = 0;
  server.socket.drop();
  await server.until(() => server.sockets.length === 2 && channels.every(({ state }) => state === 'subscribed'));
  assert.equal(seen.requests.length, 5);
  const { auth } = server.socket.commands.flatMap(({ channels, ...one }) => channels ?? [one]).find(({ channel }) => channel === 'private-007');
  assert.equal(auth, `${server.socket.socketId}:private-007`);
  assert.ok(server.socket.commands.length < 200, `${server.socket.commands.length} commands`);
});

test('an endpoint of the application is asked for one channel at a time, and for ten at once', async (t) => {
  const { seen, port, url } = await counting(t, { knowsLists: false });
  const { channels } = await wanting(t, port, PRIVATE, { endpoint: url });
  await Promise.all(channels.map((channel) => channel.ready()));
  assert.deepEqual(named(seen), PRIVATE);
  assert.ok(seen.requests.every(({ isList }) => !isList));
  assert.ok(seen.most <= 10, `${seen.most} at once`);
});

for (const status of [200, 400, 404, 405, 422]) {
  test(`an endpoint that answers a list with ${status} and no list is asked for one channel at a time from then on`, async (t) => {
    const { seen, port, url } = await counting(t, { knowsLists: false, status });
    const { server, channels } = await wanting(t, port, PRIVATE.slice(0, 150), { endpoint: url, batch: true });
    await Promise.all(channels.map((channel) => channel.ready()));
    const lists = seen.requests.filter(({ isList }) => isList).length;
    assert.ok(lists === 1 || lists === 2, `${lists} lists`);
    assert.equal(seen.requests.length, 150 + lists);
    server.socket.drop();
    await server.until(() => server.sockets.length === 2 && channels.every(({ state }) => state === 'subscribed'));
    assert.equal(seen.requests.length, 300 + lists);
    assert.equal(seen.requests.filter(({ isList }) => isList).length, lists, 'that is remembered');
  });
}

for (const trouble of [500, 502, 429, 'a lost connection']) {
  test(`an endpoint that answers one list with ${trouble} is asked for lists again`, async (t) => {
    const { seen, port } = await counting(t, { knowsLists: true, trouble });
    const { channels } = await wanting(t, port, PRIVATE.slice(0, 150), {});
    await Promise.all(channels.map((channel) => channel.ready()));
    assert.equal(seen.troubled, 1);
    assert.ok(seen.requests.length < 20, `${seen.requests.length} requests`);
  });
}

test('each channel of a list has its own answer', async (t) => {
  const { seen, port } = await counting(t, { knowsLists: true });
  const { server, channels } = await wanting(t, port, ['private-no-4302', 'private-yes', 'private-no-4301'], {});
  await channels[1].ready();
  await server.until(() => channels[0].state === 'failed' && channels[2].state === 'failed');
  const errors = channels.map(({ error }) => error && { code: error.code, status: error.status, channel: error.channel });
  assert.deepEqual(errors, [
    { code: 'auth-forbidden', status: 403, channel: 'private-no-4302' },
    null,
    { code: 'auth-forbidden', status: 401, channel: 'private-no-4301' },
  ]);
  assert.ok(seen.requests[0].isList);
});

test('what concerns the caller, or a server in trouble, is the answer for each channel of a list', async (t) => {
  const { seen, port } = await counting(t, { knowsLists: false, status: 401 });
  const { server, channels } = await wanting(t, port, PRIVATE, {});
  await server.until(() => channels.every(({ state }) => state === 'failed'));
  assert.ok(channels.every(({ error }) => error.code === 'auth-forbidden' && error.status === 401));
  assert.equal(seen.requests.length, 5);
  const busy = await counting(t, { knowsLists: false, status: 503, headers: { 'retry-after': '60' } });
  const late = await wanting(t, busy.port, PRIVATE, {});
  await late.server.until(() => busy.seen.requests.length === 5 && busy.seen.open === 0);
  assert.ok(busy.seen.requests.every(({ isList }) => isList));
});

test('a list of which nothing is wanted any more is not waited for', async (t) => {
  let isGone;
  const gone = new Promise((resolve) => (isGone = resolve));
  const http = createServer((request) => request.socket.on('close', isGone));
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => http.close());
  const asked = new Promise((resolve) => http.on('request', resolve));
  const { channels } = await wanting(t, http.address().port, PRIVATE.slice(0, 3), {});
  await asked;
  channels.forEach((channel) => channel.unsubscribe());
  await gone;
});
