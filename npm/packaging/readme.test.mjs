// What the READMEs show has to compile against the package as it is installed.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Consumer } from './support/consumer.mjs';
import { snippets } from './support/snippets.mjs';

const READMES = { 'the README': '../../README.md' };
const tsc = join(createRequire(import.meta.url).resolve('typescript/package.json'), '../bin/tsc');
const OPTIONS = [
  ['--noEmit', '--strict', '--allowJs', '--checkJs', '--noImplicitAny', 'false', '--useUnknownInCatchVariables', 'false'],
  ['--target', 'es2022', '--lib', 'es2024,dom,dom.iterable,esnext.disposable'],
  ['--module', 'esnext', '--moduleResolution', 'bundler', '--moduleDetection', 'force'],
].flat();

let consumer;

before(async () => {
  consumer = await Consumer.create();
});

after(() => consumer?.remove());

for (const [name, path] of Object.entries(READMES)) {
  const found = snippets(fileURLToPath(new URL(path, import.meta.url)));

  test(`${name} shows how it is used`, () => assert.ok(found.length > 0));

  for (const [at, { language, text }] of found.entries()) {
    test(`${name}, snippet ${at + 1}`, async () => {
      const file = `${name.replaceAll(' ', '-')}-${at}.${language}`;
      writeFileSync(join(consumer.path, file), text);
      const compiled = promisify(execFile)(process.execPath, [tsc, ...OPTIONS, file], { cwd: consumer.path });
      await compiled.catch(({ stdout }) => assert.fail(`${stdout}\n${text}`));
    });
  }
}
