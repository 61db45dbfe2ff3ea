// Pages of another origin than the server: who may open the WebSocket may read the auth endpoint, as a browser sees it.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';

import { freshPage, launch } from './support/browser.mjs';
import { StandaloneServer } from './support/servers.mjs';

const SECRET = 'a secret of at least thirty-two bytes';

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

function jwt(user) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode({ alg: 'HS256' })}.${encode({ sub: user, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** What a page sees: whether the WebSocket opens, and what the auth endpoint answers to a request with these headers. */
async function visit(server, headers) {
  const page = await freshPage(browser);
  try {
    await page.goto(server.page);
    return await page.evaluate(
      async ({ address, headers }) => {
        const socket = new WebSocket(`ws://${address}/ws`);
        const greeting = await new Promise((resolve) => {
          socket.onmessage = ({ data }) => resolve(JSON.parse(data));
          socket.onerror = () => resolve(null);
        });
        const body = JSON.stringify({ socket_id: greeting?.socket_id ?? '0'.repeat(32), channel: 'private-a' });
        const asked = { method: 'POST', credentials: 'include', body };
        let answer = null;
        try {
          const all = { ...headers, 'content-type': 'application/json' };
          const response = await fetch(`http://${address}/ws/auth`, { ...asked, headers: all });
          answer = { status: response.status, ...(await response.json()) };
        } catch {
          // What a page is told of an answer that it may not read.
        }
        if (greeting !== null && answer?.auth !== undefined) {
          const reply = new Promise((resolve) => {
            socket.onmessage = ({ data }) => resolve(JSON.parse(data));
          });
          socket.send(JSON.stringify({ type: 'subscribe', channel: 'private-a', auth: answer.auth }));
          answer.reply = (await reply).type;
        }
        socket.close();
        return { opens: greeting !== null, answer };
      },
      { address: server.address, headers },
    );
  } finally {
    await page.context().close();
  }
}

test('without a list of origins a page may connect, ask and read', async () => {
  const server = await StandaloneServer.start(['--jwt-secret', SECRET, '--allow-anonymous', '--rule', 'private-=open']);
  try {
    const { opens, answer } = await visit(server, { authorization: `Bearer ${jwt('ann')}` });
    assert.equal(opens, true);
    assert.equal(answer?.status, 200);
    assert.equal(answer.reply, 'subscription_succeeded');
    // A refusal can be read as well.
    const refused = await visit(server, {});
    assert.equal(refused.answer?.status, 401);
    assert.equal(refused.answer.code, 4301);
  } finally {
    await server.end();
  }
});

test('a server without keys for tokens says in words that it gives none', async () => {
  const server = await StandaloneServer.start();
  try {
    const { opens, answer } = await visit(server, {});
    assert.equal(opens, true);
    assert.equal(answer?.status, 403);
    assert.equal(answer.error, 'this channel needs a channel token');
  } finally {
    await server.end();
  }
});

test('a page that is not on the list may neither connect nor read', async () => {
  const server = await StandaloneServer.start(['--origin', 'https://app.example.com']);
  try {
    assert.deepEqual(await visit(server, {}), { opens: false, answer: null });
  } finally {
    await server.end();
  }
});
