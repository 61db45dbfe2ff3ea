// Takes out of the module what a panic would say. The panic handler of `client-wasm` reads no message: it traps. But the standard
// library is compiled already and puts the message together before, and with it stays all the code that formats numbers.
//
// node scripts/panics.mjs MODULE

import { readFileSync, writeFileSync } from 'node:fs';
import binaryen from 'binaryen';

/** Functions of the standard library that end in the panic handler. */
const ENDS = [/^core\b.*::panicking::panic_/, /::handle_alloc_error\b/, /::raw_vec::handle_error\b/, /::assert_failed\b/];

const [path] = process.argv.slice(2);
const module = binaryen.readBinary(readFileSync(path));
const missing = new Set(ENDS);
for (let at = 0; at < module.getNumFunctions(); at += 1) {
  const reference = module.getFunctionByIndex(at);
  const { name } = binaryen.getFunctionInfo(reference);
  const end = ENDS.find((pattern) => pattern.test(name));
  if (end !== undefined) {
    missing.delete(end);
    binaryen.Function.setBody(reference, module.unreachable());
  }
}
if (missing.size > 0) {
  throw new Error(`the module has no function like ${[...missing].join(' or ')}: see scripts/panics.mjs`);
}
binaryen.setDebugInfo(true);
writeFileSync(path, module.emitBinary());
