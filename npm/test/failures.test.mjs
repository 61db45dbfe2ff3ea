// What the application, or its backend, does wrong: the error says what it was.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { RealtimeError, UnauthorizedError } from '@fanfare/client';
import { connected, pair } from './support/client.mjs';
import { FakeServer } from './support/fake-server.mjs';

/** The first error with this code that a client tells. */
function complaint(realtime, code) {
  return new Promise((resolve) => realtime.on('error', (error) => error.code === code && resolve(error)));
}

test('what `token` throws is the cause of the error', async (t) => {
  const thrown = new Error('the session store is down');
  const { realtime } = pair(t, { token: () => Promise.reject(thrown) });
  const error = await complaint(realtime, 'token');
  assert.equal(error.cause, thrown);
  assert.equal(error.message, 'no token could be had: `token` failed: the session store is down');
  assert.equal(error.retryable, true);
});

test('a `token` that gives no text is named', async (t) => {
  const { realtime } = pair(t, { token: async () => ({ token: 'x' }) });
  const error = await complaint(realtime, 'token');
  assert.equal(error.message, 'no token could be had: `token` failed: it gave object in place of text');
});

test('an UnauthorizedError of `token` is the cause and gives the sentence', async (t) => {
  const thrown = new UnauthorizedError('the session is over');
  const { realtime } = pair(t, { token: () => Promise.reject(thrown), autoConnect: false });
  const error = await realtime.connect().catch((error) => error);
  assert.equal(error.code, 'unauthorized');
  assert.equal(error.cause, thrown);
  assert.equal(error.message, 'the credentials were refused: the session is over');
});

test('credentials that the server refuses say why, with its number', async (t) => {
  const server = new FakeServer();
  server.onCommand = (socket, { id }) => socket.say({ type: 'error', id, code: 4314, error: 'the token has expired', retry: false });
  const { realtime } = pair(t, { server, token: 'old', autoConnect: false });
  const error = await realtime.connect().catch((error) => error);
  assert.equal(error.message, 'the credentials were refused (4314): the token has expired');
  assert.equal(error.serverCode, 4314);
});

test('a connection that was lost says with what it was closed', async (t) => {
  const { server, realtime } = await connected(t);
  server.socket.drop(4100, 'the client reads too slowly');
  assert.equal(realtime.status.error.message, 'the connection was lost (4100): the client reads too slowly');
  assert.equal(realtime.status.error.serverCode, realtime.status.code);
});

test('what `auth` throws is the cause of the error', async (t) => {
  const thrown = new Error('no network');
  const { realtime } = await connected(t, { auth: () => Promise.reject(thrown) });
  realtime.channel('private-x').on('e', () => {});
  const error = await complaint(realtime, 'auth-http');
  assert.equal(error.cause, thrown);
  assert.equal(error.message, 'no channel token could be had: `auth` failed: no network');
  assert.equal(error.channel, 'private-x');
});

test('a refusal of `auth` keeps its cause, its status and its sentence', async (t) => {
  const thrown = new UnauthorizedError('not a member', { status: 401 });
  const { realtime } = await connected(t, { auth: () => Promise.reject(thrown) });
  const error = await realtime.channel('private-x').ready().catch((error) => error);
  assert.equal(error.cause, thrown);
  assert.equal(error.status, 401);
  assert.equal(error.message, 'this channel was refused: not a member');
});

test('an `auth` that gives no token is named', async (t) => {
  for (const answer of [undefined, null, 'v1.f3a1', { token: 'x' }, { auth: 7 }, { auth: 'x', channel_data: { id: 7 } }]) {
    const { realtime } = await connected(t, { auth: async () => answer });
    realtime.channel('private-x').on('e', () => {});
    const error = await complaint(realtime, 'auth-http');
    assert.equal(error.message, 'no channel token could be had: `auth` gave no {auth}');
    realtime.close();
  }
});

test('what `headers` throws is the cause of the error', async (t) => {
  const thrown = new Error('no cookie');
  const headers = () => {
    throw thrown;
  };
  const { realtime } = await connected(t, { auth: { endpoint: 'http://127.0.0.1:9/', headers } });
  realtime.channel('private-x').on('e', () => {});
  const error = await complaint(realtime, 'auth-http');
  assert.equal(error.cause, thrown);
  assert.equal(error.message, 'no channel token could be had: `auth.headers` failed: no cookie');
});

/** The error of a channel whose endpoint answers so; `asked` counts the requests. */
async function answered(t, answer, code = 'auth-http') {
  const http = createServer((request, response) => {
    request.resume();
    answer(response, request);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    http.close();
    http.closeAllConnections();
  });
  const endpoint = `http://127.0.0.1:${http.address().port}/auth`;
  const { realtime } = await connected(t, { auth: { endpoint, headers: { 'x-secret': 'mine' } } });
  realtime.channel('private-x').on('e', () => {});
  const error = await complaint(realtime, code);
  realtime.close();
  return { error, endpoint };
}

const html = (response, status = 200) => response.writeHead(status, { 'content-type': 'text/html' }).end('<!doctype html>');
const json = (response, value, status = 200) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));

for (const [name, answer, status, why] of [
  ['HTML', (response) => html(response), 200, 'the auth endpoint answered 200 with text/html in place of {"auth": "…"}'],
  ['204', (response) => response.writeHead(204).end(), 204, 'the auth endpoint answered 204 with nothing in place of {"auth": "…"}'],
  ['another envelope', (response) => json(response, { data: { auth: 'x' } }), 200, 'the auth endpoint answered 200 with other JSON in place of {"auth": "…"}'],
  ['503', (response) => html(response, 503), 503, 'the auth endpoint answered 503'],
  ['429 with a sentence', (response) => json(response, { error: 'too often' }, 429), 429, 'the auth endpoint answered 429: too often'],
]) {
  test(`an endpoint that answers ${name} is not called unreachable`, async (t) => {
    const { error } = await answered(t, answer);
    assert.equal(error.message, `no channel token could be had: ${why}`);
    assert.equal(error.status, status);
    assert.equal(error.retryable, true);
  });
}

test('an endpoint that refuses says why', async (t) => {
  const refuse = (response) => json(response, { error: 'not a member', code: 4301 }, 403);
  const { error } = await answered(t, refuse, 'auth-forbidden');
  assert.equal(error.message, 'this channel was refused: the auth endpoint answered 403: not a member');
  assert.equal(error.status, 403);
});

test('an endpoint that is not there is called so', async (t) => {
  const { realtime } = await connected(t, { auth: { endpoint: 'http://127.0.0.1:9/' } });
  realtime.channel('private-x').on('e', () => {});
  const error = await complaint(realtime, 'auth-http');
  assert.match(error.message, /^no channel token could be had: the auth endpoint could not be reached/);
  assert.ok(error.cause instanceof Error);
});

test('a redirect is not followed, least of all to another origin', async (t) => {
  const seen = [];
  const other = createServer((request, response) => {
    seen.push(request.headers);
    json(response, { auth: 'stolen' });
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    other.close();
    other.closeAllConnections();
  });
  const location = `http://localhost:${other.address().port}/`;
  for (const status of [302, 307, 308]) {
    const { error } = await answered(t, (response) => response.writeHead(status, { location }).end());
    assert.equal(error.message, 'no channel token could be had: the auth endpoint redirects, which is not followed');
    assert.equal(error.status, status);
  }
  assert.deepEqual(seen, []);
});

test('an endless answer is given up', async (t) => {
  let sent = 0;
  const endless = (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const chunk = ' '.repeat(65_536);
    const more = () => {
      while (!response.destroyed && response.write(chunk)) {
        sent += chunk.length;
      }
    };
    response.on('drain', more);
    more();
  };
  const { error } = await answered(t, endless);
  assert.match(error.message, /it has more than 1048576 bytes/);
  // Beside the limit only what sockets hold.
  assert.ok(sent < 32 * 2 ** 20, `${sent} bytes`);
});

test('a runtime without fetch is told so', async (t) => {
  const { fetch } = globalThis;
  globalThis.fetch = undefined;
  t.after(() => {
    globalThis.fetch = fetch;
  });
  const { realtime } = await connected(t, { auth: {} });
  realtime.channel('private-x').on('e', () => {});
  const error = await complaint(realtime, 'auth-http');
  assert.match(error.message, /this runtime has no `fetch`/);
});

test('what JSON cannot say is an error of the package', async (t) => {
  const { realtime } = await connected(t);
  const cyclic = {};
  cyclic.self = cyclic;
  for (const data of [1n, cyclic, () => {}, Symbol('x')]) {
    const error = await realtime.channel('c').publish('e', data).catch((error) => error);
    assert.ok(error instanceof RealtimeError, String(error));
    assert.equal(error.code, 'bad-argument');
  }
  const error = await realtime.channel('c').publish('e', 1n).catch((error) => error);
  assert.ok(error.cause instanceof TypeError);
});
