// The client alone in a page, where the chat would stand between it and the question.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { freshPage, launch } from './support/browser.mjs';
import { SuiteServer } from './support/servers.mjs';

let browser;
let server;

before(async () => {
  browser = await launch();
  server = await SuiteServer.start();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** A page with the client; `globalThis.seen` is where tests collect. */
async function open() {
  const page = await freshPage(browser);
  await page.goto(server.page);
  await page.waitForFunction(() => globalThis.fanfare !== undefined);
  return page;
}

/** Publishes numbers one after the other. */
async function publish(channel, from, to) {
  for (let number = from; number <= to; number += 1) {
    await server.pull('publish', { channel, event: 'number', data: number });
  }
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test('a token that ends is refreshed on the open connection', async () => {
  const page = await open();
  const first = await page.evaluate(async (url) => {
    const seen = { reasons: [], states: [], numbers: [] };
    const token = ({ reason }) => {
      seen.reasons.push(reason);
      return 'user:ann:2000';
    };
    const realtime = new fanfare.Realtime(url, { token });
    realtime.on('status', ({ state }) => seen.states.push(state));
    realtime.subscribe('private-ok.refresh', 'number', (number) => seen.numbers.push(number));
    await realtime.channel('private-ok.refresh').ready();
    Object.assign(globalThis, { seen, realtime });
    seen.states.length = 0;
    return realtime.socketId;
  }, server.url);
  // Three refreshes are more than two lives of the first token.
  await page.waitForFunction(() => seen.reasons.filter((reason) => reason === 'expiring').length >= 3);
  await publish('private-ok.refresh', 1, 3);
  await page.waitForFunction(() => seen.numbers.length >= 3);
  const after = await page.evaluate(() => ({ ...seen, socket: realtime.socketId, user: realtime.status.userId }));
  assert.equal(after.socket, first, 'it is the same connection');
  assert.deepEqual(after.states, [], 'and it never was anything but connected');
  assert.deepEqual(after.numbers, [1, 2, 3]);
  assert.equal(after.user, 'ann');
  assert.deepEqual(new Set(after.reasons), new Set(['connect', 'expiring']));
  await page.context().close();
});

test('a token that ends without a new one costs the connection and no message', async () => {
  const page = await open();
  await page.evaluate(async (url) => {
    const seen = { reasons: [], codes: [], numbers: [] };
    let isDown = false;
    const token = ({ reason }) => {
      seen.reasons.push(reason);
      if (isDown) throw new Error('the token service is down');
      return 'user:ben:1500';
    };
    const realtime = new fanfare.Realtime(url, { token, backoff: { max: 500 } });
    realtime.on('disconnected', ({ code }) => seen.codes.push(code));
    realtime.subscribe('h-expiry', 'number', (number) => seen.numbers.push(number));
    await realtime.channel('h-expiry').ready();
    Object.assign(globalThis, { seen, realtime, setDown: (down) => { isDown = down; } });
    isDown = true;
  }, server.url);
  await publish('h-expiry', 1, 5);
  await page.waitForFunction(() => seen.codes.length > 0);
  await publish('h-expiry', 6, 10);
  await page.evaluate(() => setDown(false));
  await page.waitForFunction(() => seen.numbers.length >= 10);
  await publish('h-expiry', 11, 11);
  await page.waitForFunction(() => seen.numbers.includes(11));
  const seen = await page.evaluate(() => globalThis.seen);
  assert.equal(seen.codes[0], 4105);
  assert.deepEqual(seen.numbers, numbers(1, 11));
  await page.context().close();
});

test('an UnauthorizedError is final', async () => {
  const page = await open();
  await page.evaluate((url) => {
    const seen = { reasons: [] };
    const token = ({ reason }) => {
      seen.reasons.push(reason);
      throw new fanfare.UnauthorizedError('signed out');
    };
    const realtime = new fanfare.Realtime(url, { token, backoff: { min: 1, max: 1 } });
    Object.assign(globalThis, { seen, realtime });
  }, server.url);
  await page.waitForFunction(() => realtime.state === 'failed');
  const { reasons, code } = await page.evaluate(() => ({ ...seen, code: realtime.status.error.code }));
  assert.deepEqual(reasons, ['connect']);
  assert.equal(code, 'unauthorized');
  await page.context().close();
});

test('connections are cut while messages run, and every message arrives once, in order', async () => {
  const page = await open();
  await page.evaluate(async (url) => {
    const seen = { numbers: [], gaps: [], sockets: new Set() };
    const realtime = new fanfare.Realtime(url, { token: 'user:cat', backoff: { min: 50, max: 200 } });
    realtime.on('connected', ({ socketId }) => seen.sockets.add(socketId));
    realtime.channel('h-cuts').onGap((gap) => seen.gaps.push(gap));
    realtime.subscribe('h-cuts', 'number', (number) => seen.numbers.push(number));
    await realtime.channel('h-cuts').ready();
    Object.assign(globalThis, { seen, realtime });
  }, server.url);
  for (let round = 0; round < 5; round += 1) {
    await publish('h-cuts', 20 * round + 1, 20 * round + 10);
    await server.pull('drop', { user: 'cat' });
    await publish('h-cuts', 20 * round + 11, 20 * round + 20);
    await page.waitForFunction((count) => seen.numbers.length >= count, 20 * round + 20);
  }
  const { received, gaps, sockets } = await page.evaluate(() => ({
    received: seen.numbers,
    gaps: seen.gaps,
    sockets: seen.sockets.size,
  }));
  assert.deepEqual(received, numbers(1, 100));
  assert.deepEqual(gaps, []);
  assert.ok(sockets >= 6, `${sockets} connections`);
  await page.context().close();
});

test('what is lost for good is said', async () => {
  const page = await open();
  await page.evaluate(async (url) => {
    const seen = { numbers: [], gaps: [] };
    const realtime = new fanfare.Realtime(url, { token: 'user:dan', backoff: { min: 50, max: 200 } });
    realtime.subscribe('h-long', 'number', (number) => seen.numbers.push(number));
    const channel = await realtime.channel('h-long').ready();
    channel.onGap(({ kind }) => seen.gaps.push({ kind, after: seen.numbers.length }));
    Object.assign(globalThis, { seen, realtime });
  }, server.url);
  await publish('h-long', 1, 2);
  await page.waitForFunction(() => seen.numbers.length >= 2);
  await page.context().setOffline(true);
  await server.pull('drop', { user: 'dan' });
  await page.waitForFunction(() => realtime.state !== 'connected');
  // The channel keeps a hundred messages: the first ones of these are gone when the page is back.
  await publish('h-long', 3, 110);
  await page.context().setOffline(false);
  await page.waitForFunction(() => realtime.state === 'connected' && seen.gaps.length > 0);
  await publish('h-long', 111, 111);
  await page.waitForFunction(() => seen.numbers.includes(111));
  const { numbers: received, gaps } = await page.evaluate(() => globalThis.seen);
  assert.equal(gaps.length, 1);
  assert.equal(gaps[0].after, 2, 'it is said before anything that follows on the hole');
  assert.deepEqual(received, [...new Set(received)].sort((a, b) => a - b));
  await page.context().close();
});
