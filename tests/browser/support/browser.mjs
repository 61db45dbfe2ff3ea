// One headless Chromium per test file.

import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

/**
 * As long as anything may take that a test waits for. Every wait has this deadline and no test has one of its own: how many
 * waits fit into a time is a question of the machine.
 */
export const DEADLINE_MS = 60_000;

export async function launch() {
  const executablePath = process.env.FANFARE_CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) {
    throw new Error(`there is no Chromium at ${executablePath}: install it or say in FANFARE_CHROMIUM where it is`);
  }
  return chromium.launch({
    executablePath,
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
}

/** A page in a context of its own, with cookies of its own. What nobody caught in it is collected in `page.uncaught`. */
export async function freshPage(browser) {
  const context = await browser.newContext();
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  page.uncaught = [];
  page.on('pageerror', (error) => page.uncaught.push(error.message));
  return page;
}
