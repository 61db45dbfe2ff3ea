import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch } from './support/browser.mjs';
import { ChatServer } from './support/servers.mjs';
import { Visitor } from './support/visitor.mjs';

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

test('a cut connection comes back and nothing is missing', async (t) => {
  const server = await ChatServer.start();
  t.after(() => server.end());
  const ada = await Visitor.enter(browser, server.url, 'Ada');
  const grace = await Visitor.enter(browser, server.url, 'Grace');
  await ada.say('before');
  await Promise.all([ada.sees('before'), grace.sees('before')]);
  await ada.tick();

  await ada.page.getByRole('button', { name: 'Cut it' }).click();
  await ada.is('reconnecting');
  await ada.page.locator('#connection-detail').filter({ hasText: /^Attempt \d/ }).waitFor();
  await ada.page.getByRole('button', { name: 'Try now' }).waitFor();
  await grace.say('one', 'two', 'three');
  await grace.sees('three');
  assert.deepEqual(await ada.texts(), ['before'], 'the line is cut');

  await ada.is('connected');
  await ada.sees('three');
  await ada.shows(['before', 'one', 'two', 'three']);
  assert.equal(await ada.page.locator('.message.recovered').count(), 3);
  assert.match(await ada.notice(/^Back after/), /^Recovered 3 messages and \d+ ticks, in order\.$/);
  const ticker = await ada.ticker();
  assert.equal(ticker.missed, 0);
  assert.ok(ticker.recovered >= 5, `${ticker.recovered} ticks were recovered`);

  await grace.say('after');
  await Promise.all([ada, grace].map((visitor) => visitor.shows(['before', 'one', 'two', 'three', 'after'])));
});

test('an answer that got lost does not make a page say something twice', async (t) => {
  const server = await ChatServer.start();
  t.after(() => server.end());
  const ada = await Visitor.enter(browser, server.url, 'Ada');
  const grace = await Visitor.enter(browser, server.url, 'Grace');
  await ada.page.getByRole('button', { name: 'Cut it' }).click();
  await ada.is('reconnecting');
  // The request arrives, its answer does not, and the line is cut: Ada's page cannot know.
  const lose = async (route) => {
    await route.fetch();
    await route.abort();
  };
  await ada.page.route('**/api/rooms/lobby/messages', lose, { times: 1 });
  await ada.say('once');
  await grace.sees('once');
  await ada.page.locator('.unsent').filter({ hasText: 'waiting to be sent' }).waitFor();
  await ada.is('connected');
  await ada.sees('once');
  await ada.say('twice');
  await Promise.all([ada, grace].map((visitor) => visitor.shows(['once', 'twice'])));
});

test('the server is killed and comes back: both pages show every message once, in order', async (t) => {
  const server = await ChatServer.start({ keeps: true });
  t.after(() => server.end());
  const ada = await Visitor.enter(browser, server.url, 'Ada');
  const grace = await Visitor.enter(browser, server.url, 'Grace');
  await ada.say('one', 'two');
  await grace.sees('two');
  await grace.say('three');
  await ada.sees('three');

  const rounds = [['four', 'five', 'six'], ['seven', 'eight', 'nine']];
  for (const [round, [missed, unsent, later]] of rounds.entries()) {
    // Grace is away for what the server's history will not have when she is back: the page has to ask the application.
    await grace.page.getByRole('button', { name: 'Cut it' }).click();
    await grace.is('reconnecting');
    await ada.say(missed);
    await ada.sees(missed);
    await server.kill();
    await ada.is('reconnecting');
    await ada.say(unsent);
    await ada.page.locator('.unsent').filter({ hasText: 'waiting to be sent' }).waitFor();
    await server.restart();
    await Promise.all([ada.is('connected'), grace.is('connected')]);
    await Promise.all([ada.sees(unsent), grace.sees(unsent)]);
    await grace.say(later);
    await Promise.all([ada.isWith('Ada', 'Grace'), grace.isWith('Ada', 'Grace')]);
    assert.match(await ada.notice(/^Back after/), /^The server started again/);
    const expected = ['one', 'two', 'three', ...rounds.slice(0, round + 1).flat()];
    for (const visitor of [ada, grace]) {
      await visitor.shows(expected);
      assert.equal((await visitor.ticker()).missed, 0);
      assert.equal(await visitor.page.locator('.unsent').count(), 0);
      assert.deepEqual(visitor.page.uncaught, []);
    }
  }

  const late = await Visitor.enter(browser, server.url, 'Linus', 'design');
  await late.shows(await ada.texts());
});

test('a server that has forgotten the session sends the page back to the door', async (t) => {
  const server = await ChatServer.start();
  t.after(() => server.end());
  const ada = await Visitor.enter(browser, server.url, 'Ada');
  await server.kill();
  await ada.is('reconnecting');
  await server.restart();
  await ada.page.getByRole('button', { name: 'Come in' }).waitFor();
});

test('a page goes offline and online', async (t) => {
  const server = await ChatServer.start();
  t.after(() => server.end());
  const ada = await Visitor.enter(browser, server.url, 'Ada');
  const grace = await Visitor.enter(browser, server.url, 'Grace');
  await ada.say('before');
  await grace.sees('before');
  await ada.page.context().setOffline(true);
  await ada.is('offline', 'reconnecting');
  await grace.say('one', 'two');
  await grace.sees('two');
  await ada.say('written offline');
  await ada.page.locator('.unsent').filter({ hasText: 'waiting to be sent' }).waitFor();
  assert.deepEqual(await ada.texts(), ['before'], 'the page is offline');

  await ada.page.context().setOffline(false);
  await ada.is('connected');
  await Promise.all([ada.sees('written offline'), grace.sees('written offline')]);
  const expected = ['before', 'one', 'two', 'written offline'];
  await Promise.all([ada, grace].map((visitor) => visitor.shows(expected)));
  assert.equal((await ada.ticker()).missed, 0);
});
