// Turns wasm-bindgen's glue, which knows one instance for ever, into a function that makes one each time it is called.

import { readFileSync } from 'node:fs';
import { build } from 'esbuild';

/** The text of a module that exports `instantiate(module, guard, seam)`; the glue finds what it imports under the last name. */
export async function factory(path) {
  const glue = UNUSED.reduce((text, [found, put]) => replaceOnce(text, found, put, path), readFileSync(path, 'utf8'));
  const result = await build({
    stdin: { contents: "export { initSync, Machine } from 'glue'" },
    plugins: [module(glue)],
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

/** Resolves `glue` to this text. */
function module(contents) {
  return {
    name: 'glue',
    setup(build) {
      build.onResolve({ filter: /^glue$/ }, () => ({ path: 'glue', namespace: 'glue' }));
      build.onLoad({ filter: /.*/, namespace: 'glue' }, () => ({ contents }));
    },
  };
}

/** What the package has no use for, and what stands in its place. */
const UNUSED = [
  // A sentence of wasm-bindgen's own is all that the glue decodes, and not every runtime has a TextDecoder.
  [/throw new Error\(getStringFromWasm0\(arg0, arg1\)\);/, "throw new Error('wasm-bindgen');"],
  [/let cachedTextDecoder = new TextDecoder[^;]*;\s*cachedTextDecoder\.decode\(\);/, 'let cachedTextDecoder;'],
  // The memory of a machine goes with its instance.
  [/ {4}__destroy_into_raw\(\) \{[^}]*\}\s*free\(\) \{[^}]*\}\n/, ''],
  [/MachineFinalization\.register\([^;]*;/, ''],
  [/const MachineFinalization = [^;]*;/, ''],
  [/if \(Symbol\.dispose\) Machine\.prototype[^;]*;/, ''],
];

function replaceOnce(text, pattern, replacement, path) {
  const count = [...text.matchAll(new RegExp(pattern, `${pattern.flags.replace('g', '')}g`))].length;
  if (count !== 1) {
    throw new Error(`${path}: expected ${pattern} once, found it ${count} times; wasm-bindgen's glue has changed`);
  }
  return text.replace(pattern, replacement);
}
