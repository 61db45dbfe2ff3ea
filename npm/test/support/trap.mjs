/** `unreachable`, as a module: (module (func (export "trap") unreachable)). */
const UNREACHABLE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 8, 1, 4, 116, 114, 97, 112, 0, 0, 10, 5, 1, 3, 0, 0, 11,
]);

/**
 * Arms every instance of the client that is made while the test runs: after `trapNext(name)`, the next call of an export
 * whose name contains `name` runs into a real trap instead.
 */
export function armed(t) {
  const { Instance } = WebAssembly;
  const { trap } = new Instance(new WebAssembly.Module(UNREACHABLE)).exports;
  const instances = [];
  let wanted = null;
  WebAssembly.Instance = function (module, imports) {
    const { exports } = new Instance(module, imports);
    const wrapped = { ...exports };
    for (const [name, value] of Object.entries(exports)) {
      if (typeof value === 'function') {
        wrapped[name] = (...values) => {
          if (wanted !== null && name.includes(wanted)) {
            wanted = null;
            return trap();
          }
          return value(...values);
        };
      }
    }
    instances.push(wrapped);
    return { exports: wrapped };
  };
  t.after(() => {
    WebAssembly.Instance = Instance;
  });
  return {
    instances,
    trapNext(name) {
      wanted = name;
    },
  };
}
