/*
 * Types of the runtime as they are declared where this package is used: by the DOM library, by `@types/node`, or not at all.
 * To name them directly would oblige programs for Node to compile with the DOM library.
 */

type Instance<Name extends string, Otherwise> =
  typeof globalThis extends Record<Name, { prototype: infer Type }> ? Type : Otherwise;

/** An `AbortSignal`. */
export type Signal = Instance<
  'AbortSignal',
  {
    readonly aborted: boolean;
    readonly reason: any;
    addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
    removeEventListener(type: 'abort', listener: () => void): void;
  }
>;

/** A `URL`. */
export type Url = Instance<'URL', { readonly href: string }>;

/** What `Headers` can be made of. */
export type HeaderValues = Instance<'Headers', never> | Record<string, string> | [string, string][];

/** What the WebAssembly module can be made of: itself, its bytes, a response with them, or where to fetch it. */
export type WasmInput = WasmModule | ArrayBuffer | ArrayBufferView | Instance<'Response', never> | Url | string;

type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer Module } } } ? Module : never;
