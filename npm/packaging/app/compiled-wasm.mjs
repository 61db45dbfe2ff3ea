// Imports of .wasm files as workerd has them: the compiled module is the default export.
import { register } from 'node:module';

const hooks = `
export async function load(url, context, next) {
  if (!url.endsWith('.wasm')) {
    return next(url, context);
  }
  const source = \`
    import { readFileSync } from 'node:fs';
    export default new WebAssembly.Module(readFileSync(new URL(\${JSON.stringify(url)})));\`;
  return { format: 'module', source, shortCircuit: true };
}`;

register(`data:text/javascript,${encodeURIComponent(hooks)}`);
