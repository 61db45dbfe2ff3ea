// Builds dist/ from src/ and from the wasm client that `cargo xtask wasm` leaves in wasm/.

import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { factory } from './glue.mjs';
import { pack } from './pack.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const wasm = join(root, 'wasm/fanfare_client_wasm_bg.wasm');

if (!existsSync(wasm)) {
  console.error('npm/wasm is empty: run `cargo xtask wasm` first');
  process.exit(1);
}
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
await bundles();
declarations();
licences();

async function bundles() {
  const glue = await factory(join(root, 'wasm/fanfare_client_wasm.js'));
  // Node prints the line that an uncaught error comes from. So the module has a line of its own behind all code, and code has
  // short ones.
  const text = `var FANFARE_MODULE=\n${JSON.stringify(pack(readFileSync(wasm)))};`;
  const bundle = (entry, outfile, options = {}) =>
    build({
      entryPoints: [join(root, 'src/entry', `${entry}.ts`)],
      outfile: join(dist, outfile),
      bundle: true,
      minify: true,
      lineLimit: 800,
      format: 'esm',
      platform: 'neutral',
      target: 'es2022',
      sourcemap: 'linked',
      legalComments: 'none',
      logLevel: 'warning',
      plugins: [plugin(glue)],
      ...options,
    });
  await Promise.all([
    bundle('inline', 'index.js', { footer: { js: text } }),
    bundle('inline', 'index.cjs', { format: 'cjs', footer: { js: text } }),
    bundle('inline', 'client.global.js', {
      format: 'iife',
      globalName: 'Fanfare',
      // In a scope that is not the page's.
      banner: { js: 'var Fanfare=(()=>{' },
      footer: { js: `${text}\nreturn Fanfare})();` },
    }),
    bundle('slim', 'slim.js'),
    bundle('slim', 'slim.cjs', { format: 'cjs' }),
    bundle('external', 'external.js'),
    bundle('workerd', 'workerd.js'),
  ]);
  copyFileSync(wasm, join(dist, 'client.wasm'));
}

/** Resolves the glue to its factory, and leaves the import of the module to whoever bundles for workerd. */
function plugin(glue) {
  return {
    name: 'fanfare',
    setup(build) {
      build.onResolve({ filter: /^fanfare:glue$/ }, () => ({ path: 'glue', namespace: 'fanfare' }));
      build.onLoad({ filter: /.*/, namespace: 'fanfare' }, () => ({ contents: glue }));
      build.onResolve({ filter: /\/client\.wasm$/ }, () => ({ path: './client.wasm', external: true }));
    },
  };
}

/** The licences are those of the repository; npm takes no file from outside of its folder. */
function licences() {
  for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
    copyFileSync(join(root, '..', name), join(root, name));
  }
}

/** Types for `import`, and the same once more for `require`. */
function declarations() {
  const types = join(dist, 'types');
  const entries = ['inline', 'external', 'slim'].map((entry) => join(root, 'src/entry', `${entry}.ts`));
  const options = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--stripInternal'];
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', root, '--outDir', types, ...options],
    { stdio: 'inherit', cwd: root },
  );
  const wanted = reachable(entries.map((entry) => join(types, relative(join(root, 'src'), entry).replace('.ts', '.d.ts'))));
  for (const file of readdirSync(types, { recursive: true })) {
    const path = join(types, file);
    if (wanted.has(path)) {
      const text = readFileSync(path, 'utf8');
      writeFileSync(path.replace('.d.ts', '.d.cts'), text.replaceAll(/(from '\.[^']*)\.js'/g, "$1.cjs'"));
    } else if (path.endsWith('.d.ts')) {
      rmSync(path);
    }
  }
  // `using` and Disposable are younger than the oldest TypeScript setting that people compile with.
  const entry = (name, extension) => `/// <reference lib="esnext.disposable" />\nexport * from './types/entry/${name}.${extension}';\n`;
  writeFileSync(join(dist, 'index.d.ts'), entry('inline', 'js'));
  writeFileSync(join(dist, 'index.d.cts'), entry('inline', 'cjs'));
  writeFileSync(join(dist, 'slim.d.ts'), entry('slim', 'js'));
  writeFileSync(join(dist, 'slim.d.cts'), entry('slim', 'cjs'));
  writeFileSync(join(dist, 'external.d.ts'), entry('external', 'js'));
}

/** The files that these import, themselves included. */
function reachable(files) {
  const found = new Set();
  const visit = (file) => {
    if (found.has(file)) {
      return;
    }
    found.add(file);
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/from '(\.[^']*)\.js'/g)) {
      visit(join(dirname(file), `${path}.d.ts`));
    }
  };
  files.forEach(visit);
  return found;
}
