// One page with thousands of channels: what it sends after a reconnect stays within the server's limits.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { freshPage, launch } from './support/browser.mjs';
import { SuiteServer } from './support/servers.mjs';

const PUBLIC = 5_000;
const PRIVATE = 500;

/** 3 s is what it may take; a busy machine gets ten times as long. */
const BACK_WITHIN_MS = 30_000;

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** A page with a client that counts its errors. */
async function open(t, server) {
  const page = await freshPage(browser);
  t.after(() => page.context().close());
  await page.goto(server.page);
  await page.waitForFunction(() => globalThis.fanfare !== undefined);
  await page.evaluate((url) => {
    const headers = { authorization: 'Bearer user:ann' };
    const realtime = new fanfare.Realtime(url, { token: 'user:ann', auth: { headers, credentials: 'omit' } });
    const errors = [];
    realtime.on('error', ({ code, message, channel }) => errors.push(`${code} ${channel}: ${message}`));
    Object.assign(globalThis, { realtime, errors, heard: {}, gaps: 0 });
    // The others keep no history: who was away from them is told so, rightly.
    realtime.on('gap', ({ channel }) => (globalThis.gaps += channel.startsWith('h-') ? 1 : 0));
    globalThis.want = (names) => {
      for (const name of names) {
        heard[name] = [];
        realtime.subscribe(name, 'n', (data) => heard[name].push(data));
      }
    };
    globalThis.live = () => Object.keys(heard).filter((name) => realtime.channel(name).state === 'subscribed').length;
  }, server.url);
  return page;
}

test('five thousand public and five hundred private channels are back at once', async (t) => {
  const server = await SuiteServer.start('--channels-max', String(PUBLIC + PRIVATE));
  t.after(() => server.end());
  const page = await open(t, server);
  const count = PUBLIC + PRIVATE;
  await page.evaluate(
    ([publics, privates]) => {
      want(Array.from({ length: publics }, (_, at) => `h-${at}`));
      want(Array.from({ length: privates }, (_, at) => `private-ok.${at}`));
    },
    [PUBLIC, PRIVATE],
  );
  await page.waitForFunction((count) => live() === count, count, { timeout: BACK_WITHIN_MS, polling: 50 });
  await page.evaluate((count) => {
    globalThis.back = new Promise((resolve) => {
      const start = performance.now();
      const seen = new Set();
      for (const name of Object.keys(heard)) {
        realtime.channel(name).onState((state) => {
          if (state === 'subscribed' && seen.add(name).size === count) resolve(performance.now() - start);
        });
      }
    });
  }, count);
  await server.pull('drop', {});
  // What is published while the channels come back is missed by none of them.
  const told = Array.from({ length: PUBLIC / 100 }, (_, at) => at * 100);
  for (const at of told) {
    await server.pull('publish', { channel: `h-${at}`, event: 'n', data: at });
  }
  const tooLate = new Promise((_, reject) => setTimeout(reject, BACK_WITHIN_MS, new Error('not back in time')).unref());
  const took = await Promise.race([page.evaluate(() => back), tooLate]);
  t.diagnostic(`back after ${Math.round(took)} ms`);
  await page.waitForFunction((told) => told.every((at) => heard[`h-${at}`].length > 0), told);
  const { missing, errors, gaps } = await page.evaluate(
    (told) => ({ missing: told.filter((at) => heard[`h-${at}`].join() !== `${at}`), errors, gaps }),
    told,
  );
  // The lost connection is one; it is about no channel.
  const others = errors.filter((error) => !error.startsWith('transport'));
  assert.deepEqual({ missing, others, gaps }, { missing: [], others: [], gaps: 0 });
});

test('six hundred wanted at a limit of a hundred settle with one error each', async (t) => {
  const server = await SuiteServer.start();
  t.after(() => server.end());
  const page = await open(t, server);
  await page.evaluate(() => want(Array.from({ length: 600 }, (_, at) => `h-${at}`)));
  await page.waitForFunction(() => live() === 100 && errors.length === 500);
  const socket = await page.evaluate(() => realtime.socketId);
  await server.pull('drop', {});
  await page.waitForFunction((socket) => live() === 100 && realtime.socketId !== socket, socket);
  const errors = await page.evaluate(() => errors.filter((error) => !error.startsWith('too-many-channels')));
  // The lost connection itself is one.
  assert.deepEqual(errors.map((error) => error.split(' ')[0]), ['transport']);
  assert.equal(await page.evaluate(() => errors.length), 501);
});
