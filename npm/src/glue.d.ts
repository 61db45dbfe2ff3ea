/** What the build makes of wasm-bindgen's glue: an instance of its own for each call. */
declare module 'fanfare:glue' {
  export const instantiate: import('./keeper.js').Instantiate;
}

/** The module, deflated, as base64. */
declare const WASM_BASE64: string;

declare module '*.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
