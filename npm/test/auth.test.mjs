import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { UnauthorizedError } from '@fanfare/client';
import { connected } from './support/client.mjs';

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
  const { Realtime } = await import('@fanfare/client');
  const { FakeServer } = await import('./support/fake-server.mjs');
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
