// The package under jest with jsdom, where much of a browser is missing: TextEncoder, TextDecoder, fetch.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { Consumer } from './support/consumer.mjs';
import { RealtimeServer } from './support/server.mjs';

const require = createRequire(import.meta.url);

let consumer;
let realtime;

before(async () => {
  [consumer, realtime] = await Promise.all([Consumer.create(), RealtimeServer.start()]);
});

after(() => {
  realtime?.stop();
  consumer?.remove();
});

for (const version of [29, 30]) {
  test(`jest ${version} with jsdom`, async () => {
    const jest = join(require.resolve(`jest-${version}/package.json`), '../bin/jest.js');
    const config = {
      rootDir: consumer.path,
      testEnvironment: require.resolve(`jest-environment-jsdom-${version}`),
      testMatch: ['**/*.spec.cjs'],
      transform: {},
    };
    const args = [jest, '--ci', '--runInBand', '--config', JSON.stringify(config)];
    const env = { ...process.env, REALTIME_URL: realtime.url };
    const ran = promisify(execFile)(process.execPath, args, { cwd: consumer.path, env, timeout: 180_000 });
    const { stderr } = await ran.catch(({ stdout, stderr }) => assert.fail(`${stdout}\n${stderr}`));
    assert.match(stderr, /Tests: +3 passed, 3 total/);
  });
}
