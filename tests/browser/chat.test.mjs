import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch } from './support/browser.mjs';
import { ChatServer } from './support/servers.mjs';
import { Visitor } from './support/visitor.mjs';

let browser;
let server;

before(async () => {
  browser = await launch();
  server = await ChatServer.start();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Two people in the lobby. */
async function two(names = ['Ada', 'Grace'], teams = ['engineering', 'engineering']) {
  const visitors = await Promise.all(names.map((name, at) => Visitor.enter(browser, server.url, name, teams[at])));
  return { visitors, end: () => Promise.all(visitors.map((visitor) => visitor.leave())) };
}

test('two pages chat', async () => {
  const { visitors: [ada, grace], end } = await two();
  await ada.go('Coffee corner');
  await grace.go('Coffee corner');
  await Promise.all([ada.isIn('Coffee corner'), grace.isIn('Coffee corner')]);
  await ada.say('one', 'two');
  await grace.sees('two');
  await grace.say('three');
  await ada.sees('three');
  await ada.say('four');
  await grace.sees('four');
  for (const visitor of [ada, grace]) {
    await visitor.shows(['one', 'two', 'three', 'four']);
    assert.equal(await visitor.page.locator('.unsent').count(), 0);
    assert.deepEqual(visitor.page.uncaught, []);
  }

  const late = await Visitor.enter(browser, server.url, 'Linus', 'design');
  await late.go('Coffee corner');
  await late.shows(['one', 'two', 'three', 'four']);
  await late.leave();
  await end();
});

test('what people write is text', async () => {
  const { visitors: [ada, grace], end } = await two();
  const evil = '<img src=x onerror="document.title=1"><b>bold</b>';
  await ada.say(evil);
  await grace.sees(evil);
  assert.equal(await grace.page.locator('#messages img, #messages .words b').count(), 0);
  await end();
});

test('each page shows who is there', async () => {
  const { visitors: [ada, grace], end } = await two();
  await Promise.all([ada.isWith('Ada', 'Grace'), grace.isWith('Ada', 'Grace')]);

  // A second window of the same person is the same person.
  const again = await Visitor.enter(browser, server.url, 'Grace', 'engineering');
  await again.isWith('Ada', 'Grace');
  await ada.tick();
  await ada.isWith('Ada', 'Grace');
  await again.leave();

  await grace.go('Launch day');
  await grace.isIn('Launch day');
  await grace.isWith('Grace');
  await ada.isWith('Ada');
  await grace.go('Lobby');
  await ada.isWith('Ada', 'Grace');
  await grace.page.getByRole('button', { name: 'Sign out' }).click();
  await ada.isWith('Ada');
  await end();
});

test('a private room takes its team and refuses others', async () => {
  const { visitors: [ada, linus], end } = await two(['Ada', 'Linus'], ['engineering', 'design']);
  const grace = await Visitor.enter(browser, server.url, 'Grace', 'engineering');
  const asked = (visitor) => visitor.page.waitForResponse(
    (response) => new URL(response.url()).pathname === '/ws/auth'
      && response.request().postData().includes('private-team.engineering'),
  );
  const [permission] = await Promise.all([asked(ada), ada.go('Engineering')]);
  assert.equal(permission.status(), 200);
  await grace.go('Engineering');
  await Promise.all([ada.isIn('Engineering'), grace.isIn('Engineering')]);

  const [refusal] = await Promise.all([asked(linus), linus.go('Engineering')]);
  assert.equal(refusal.status(), 403);
  await linus.page.locator('#room-state[data-state=failed]').waitFor();
  await linus.page.getByText('You cannot enter').waitFor();
  assert.ok(await linus.page.getByRole('button', { name: 'Send' }).isDisabled());

  await ada.say('only for us');
  await grace.sees('only for us');
  // The tick was published after the message: what Linus was sent, he has.
  await Promise.all([linus.tick(), ada.tick()]);
  await linus.tick();
  assert.deepEqual(await linus.texts(), []);
  await grace.leave();
  await end();
});

test('the others see who is typing', async () => {
  const { visitors: [ada, grace], end } = await two();
  await Promise.all([ada.isWith('Ada', 'Grace'), grace.isWith('Ada', 'Grace')]);
  const typing = ada.page.locator('#typing');
  // Slowly: typing has a channel of its own, which may be there a moment later than the room's.
  await Promise.all([
    typing.filter({ hasText: 'Grace is typing' }).waitFor(),
    grace.page.getByLabel('Message', { exact: true }).pressSequentially('hello everybody', { delay: 200 }),
  ]);
  assert.equal(await grace.page.locator('#typing').textContent(), '');
  await grace.say('hello');
  await ada.sees('hello');
  await typing.filter({ hasNotText: 'typing' }).waitFor({ state: 'attached' });
  await end();
});

test('pokes and mentions reach the one they are for', async () => {
  const { visitors: [ada, grace], end } = await two();
  const linus = await Visitor.enter(browser, server.url, 'Linus', 'design');
  await ada.isWith('Ada', 'Grace', 'Linus');
  await ada.page.getByRole('button', { name: 'Poke Grace' }).click();
  await grace.notice('Ada pokes you');

  await grace.go('Launch day');
  await grace.isIn('Launch day');
  await ada.say('@grace, are you there?');
  assert.equal(await grace.notice('Ada mentions you in Lobby'), '@grace, are you there?');
  await grace.page.getByRole('button', { name: 'Go there' }).click();
  await grace.isIn('Lobby');
  await grace.sees('@grace, are you there?');

  await linus.tick();
  assert.equal(await linus.page.locator('.notice').count(), 0);
  await linus.leave();
  await end();
});

test('rooms and messages work from the keyboard', async () => {
  const { visitors: [ada, grace], end } = await two();
  const { page } = ada;
  await page.keyboard.type('from the keyboard');
  await page.keyboard.press('Enter');
  await grace.sees('from the keyboard');
  await page.getByRole('link', { name: 'Launch day' }).focus();
  await page.keyboard.press('Enter');
  await ada.isIn('Launch day');
  await end();
});
