/** What the build makes of wasm-bindgen's glue: an instance of its own for each call. */
declare module 'fanfare:glue' {
  export const instantiate: import('./supervisor.js').Instantiate;
}

/** The module, as `scripts/pack.mjs` writes it: the build puts it at the end of the file. */
declare const FANFARE_MODULE: string;

declare module '*.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
