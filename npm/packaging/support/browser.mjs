import { chromium } from 'playwright-core';

/** One Chromium for all tests. */
export class Browser {
  #browser;

  static async start() {
    const browser = new Browser();
    browser.#browser = await chromium.launch({
      executablePath: process.env.FANFARE_CHROMIUM ?? process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    return browser;
  }

  /** Opens a page and returns what its `result` becomes. */
  async run(page, server) {
    const tab = await this.#browser.newPage();
    const errors = [];
    tab.on('pageerror', (error) => errors.push(String(error)));
    tab.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    try {
      const url = new URL(page);
      url.searchParams.set('server', server);
      await tab.goto(url.href);
      // A development server may load the page once more after it has found out what to prepare.
      await tab.waitForFunction(() => 'result' in globalThis, undefined, { timeout: 60_000 });
      return await tab.evaluate(() => globalThis.result);
    } catch (error) {
      throw new Error(`${error.message}\n${errors.join('\n')}`);
    } finally {
      await tab.close();
    }
  }

  async stop() {
    await this.#browser.close();
  }
}
