// Somebody in the chat: what a person does with the page and sees on it.

import assert from 'node:assert/strict';

import { freshPage } from './browser.mjs';

export class Visitor {
  /** The page, for what has no name here. */
  page;

  constructor(page) {
    this.page = page;
  }

  /** Signs in and waits until the lobby is live. */
  static async enter(browser, url, name, team = 'engineering') {
    const visitor = new Visitor(await freshPage(browser));
    const { page } = visitor;
    await page.goto(url);
    await page.getByLabel('Your name').fill(name);
    await page.locator(`input[value=${team}]`).check({ force: true });
    await page.getByRole('button', { name: 'Come in' }).click();
    await visitor.isIn('Lobby');
    return visitor;
  }

  async leave() {
    await this.page.context().close();
  }

  async say(...texts) {
    for (const text of texts) {
      await this.page.getByLabel('Message', { exact: true }).fill(text);
      await this.page.getByRole('button', { name: 'Send' }).click();
    }
  }

  async go(room) {
    await this.page.getByRole('link', { name: room }).click();
  }

  async isIn(room) {
    await this.page.getByRole('heading', { name: room, exact: true, level: 1 }).waitFor();
    await this.page.locator('#room-state[data-state=subscribed]').waitFor();
  }

  /** Waits for a connection state. */
  async is(...states) {
    const wanted = states.map((state) => `#connection[data-state=${state}]`).join(',');
    await this.page.locator(wanted).waitFor();
  }

  /** Waits until the messages of the room end with this text, in the room and not only written here. */
  async sees(text) {
    const last = this.page.locator('#messages > li:last-child:not(.unsent) .words');
    await last.filter({ hasText: text }).waitFor();
  }

  /** The texts of the room, top to bottom. */
  texts() {
    return this.page.locator('#messages > li:not(.unsent) .words').allTextContents();
  }

  /** Waits until the room shows exactly these texts, and no more has come by the next tick. */
  async shows(texts) {
    const isShown = (expected) => {
      const words = [...document.querySelectorAll('#messages > li .words')];
      return JSON.stringify(words.map((text) => text.textContent)) === JSON.stringify(expected);
    };
    // What is there instead, when it is not, the assertion says better than a deadline.
    await this.page.waitForFunction(isShown, texts).catch(() => {});
    await this.tick();
    assert.deepEqual(await this.texts(), texts);
  }

  /** Waits until exactly these people are here. */
  async isWith(...names) {
    await this.page.waitForFunction((expected) => {
      const shown = [...document.querySelectorAll('#people .name b')].map((name) => name.textContent);
      return JSON.stringify(shown.sort()) === JSON.stringify(expected);
    }, [...names].sort());
  }

  /** Waits for a notice with this title and answers its text. */
  async notice(title) {
    const notice = this.page.locator('.notice').filter({ has: this.page.getByText(title, { exact: typeof title === 'string' }) });
    await notice.first().waitFor();
    return notice.first().locator('p').textContent();
  }

  /** What the ticker has counted. */
  async ticker() {
    const count = async (id) => Number(await this.page.locator(`#ticker-${id}`).textContent());
    return { number: await count('number'), recovered: await count('recovered'), missed: await count('missed') };
  }

  /** Waits for the next live tick: everything that was published before it has arrived. */
  async tick() {
    const { number } = await this.ticker();
    await this.page.waitForFunction(
      (before) => Number(document.getElementById('ticker-number').textContent) !== before,
      number,
    );
  }
}
