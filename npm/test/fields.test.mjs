// There are two readers of messages, one in Rust and one in TypeScript: they take and refuse the same.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { silent } from './support/golden.mjs';

const table = new URL('../../protocol/tests/golden/fields.json', import.meta.url);
const { values, messages } = JSON.parse(readFileSync(table, 'utf8'));

for (const { text, fields } of messages) {
  for (const [pointer, verdicts] of Object.entries(fields)) {
    test(`${pointer} of ${text}`, async (t) => {
      const { server, realtime } = await silent(t);
      let refusals = 0;
      realtime.on('error', ({ code }) => {
        refusals += +(code === 'protocol');
      });
      const [name, ...path] = pointer.slice(1).split('/').reverse();
      const say = (put) => {
        const message = JSON.parse(text);
        put(path.reduceRight((object, key) => object[key], message));
        refusals = 0;
        server.socket.sayText(JSON.stringify(message));
        return refusals === 0;
      };
      const taken = [say((object) => delete object[name]), ...values.map((value) => say((object) => (object[name] = value)))];
      // One of an unknown type is not read, and nobody complains.
      assert.deepEqual(taken, [...verdicts].map((verdict) => verdict !== 'n'));
    });
  }
}
