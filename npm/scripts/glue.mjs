// Turns wasm-bindgen's glue, which knows one instance for ever, into a function that makes one each time it is called.

import { basename, dirname } from 'node:path';
import { build } from 'esbuild';

/** The text of a module that exports `instantiate(module, guard, seam)`; the glue finds what it imports under the last name. */
export async function factory(path) {
  const result = await build({
    stdin: {
      contents: `export { initSync, Machine } from './${basename(path)}'`,
      resolveDir: dirname(path),
    },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    legalComments: 'none',
  });
  let text = result.outputFiles[0].text;
  text = replaceOnce(text, /wasm = instance\.exports;/, 'wasm = guard(instance.exports);', path);
  text = replaceOnce(text, /^export \{[^}]*\};\s*$/m, '', path);
  return `export function instantiate(module, guard, seam) {\n${text}\ninitSync({ module });\nreturn Machine;\n}\n`;
}

function replaceOnce(text, pattern, replacement, path) {
  const count = [...text.matchAll(new RegExp(pattern, `${pattern.flags.replace('g', '')}g`))].length;
  if (count !== 1) {
    throw new Error(`${path}: expected ${pattern} once, found it ${count} times; wasm-bindgen's glue has changed`);
  }
  return text.replace(pattern, replacement);
}
