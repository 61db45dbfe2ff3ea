import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

const BUNDLER = { module: 'esnext', moduleResolution: 'bundler' };
const NODE = { module: 'node16', moduleResolution: 'node16' };
const LIB = ['es2022', 'dom', 'dom.iterable'];
const OLD_LIB = ['es2020', 'dom'];

/** Compiles files of test/types and gives what the compiler said. */
async function compile(compiler, options, ...files) {
  const folder = mkdtempSync(`${root}/test/types/config-`);
  const compilerOptions = {
    noEmit: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    types: [],
    target: 'es2022',
    lib: LIB,
    ...options,
  };
  writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions, files: files.map((file) => `../${file}`) }));
  try {
    await run(process.execPath, [`${root}/node_modules/${compiler}/bin/tsc`, '-p', folder], { cwd: root });
    return '';
  } catch ({ stdout }) {
    return stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('the sources are well typed', async () => {
  await run(process.execPath, [`${root}/node_modules/typescript/bin/tsc`, '-p', root], { cwd: root });
});

test('both sides of the border to the module agree', async () => {
  assert.equal(await compile('typescript', { ...BUNDLER, exactOptionalPropertyTypes: false, lib: ['esnext', 'dom'] }, 'seam.ts'), '');
});

for (const compiler of ['typescript', 'typescript-oldest']) {
  const { version } = JSON.parse(readFileSync(`${root}/node_modules/${compiler}/package.json`, 'utf8'));

  test(`TypeScript ${version} reads the types as a bundler does`, async () => {
    assert.equal(await compile(compiler, BUNDLER, 'api.ts'), '');
    assert.equal(await compile(compiler, BUNDLER, 'register.ts'), '');
  });

  test(`TypeScript ${version} reads the types as Node does`, async () => {
    assert.equal(await compile(compiler, NODE, 'api.ts'), '');
    assert.equal(await compile(compiler, NODE, 'required.cts'), '');
  });

  test(`TypeScript ${version} needs no DOM library`, async () => {
    for (const how of [NODE, BUNDLER]) {
      assert.equal(await compile(compiler, { ...how, lib: ['es2022'] }, 'node.ts'), '');
      const options = { ...how, lib: ['es2022'], types: ['node'], skipLibCheck: true };
      assert.equal(await compile(compiler, options, 'node.ts', 'node-globals.ts'), '');
    }
  });

  test(`TypeScript ${version} needs no newer library than that of 2020`, async () => {
    assert.equal(await compile(compiler, { ...BUNDLER, lib: OLD_LIB }, 'api.ts'), '');
  });
}

test('every example in the README compiles', async (t) => {
  const folder = mkdtempSync(`${root}/test/types/readme-`);
  t.after(() => rmSync(folder, { recursive: true }));
  const blocks = [...readFileSync(`${root}/README.md`, 'utf8').matchAll(/^```(ts|js)\n(.*?)^```/gms)];
  assert.ok(blocks.length > 5, 'the README has examples');
  const before = "import { Realtime } from '@fanfare/client';\ndeclare const realtime: Realtime;\n";
  blocks.forEach(([, , text], at) => {
    // Most go on from the first, which has the client.
    const whole = /^import .*@fanfare\/client/m.test(text) ? text : before + text;
    writeFileSync(`${folder}/example-${at}.ts`, `${whole}\nexport {};\n`);
  });
  const files = readdirSync(folder).map((name) => `${folder.split('/').at(-1)}/${name}`);
  assert.equal(await compile('typescript', { ...BUNDLER, noImplicitAny: false }, 'modules.d.ts', ...files), '');
});
