import { RealtimeError } from './errors.js';
import type { WasmInput } from './types.js';

/** Gets and compiles the module, once for all clients of this page. A load that failed can be tried again. */
export class ModuleLoader {
  readonly #source: () => WasmInput | Promise<WasmInput>;
  #module: Promise<WebAssembly.Module> | null = null;

  constructor(source: () => WasmInput | Promise<WasmInput>) {
    this.#source = source;
  }

  /** `input` is used when nothing was loaded yet. */
  load(input?: WasmInput | Promise<WasmInput>): Promise<WebAssembly.Module> {
    if (this.#module === null) {
      const loading = compile(input === undefined ? this.#source : () => input);
      this.#module = loading;
      loading.catch(() => {
        this.#module = null;
      });
    }
    return this.#module;
  }
}

async function compile(source: () => WasmInput | Promise<WasmInput>): Promise<WebAssembly.Module> {
  if (typeof WebAssembly !== 'object') {
    throw new RealtimeError('wasm-load', 'this runtime has no WebAssembly');
  }
  try {
    const input = await source();
    if (input instanceof WebAssembly.Module) {
      return input;
    }
    return await WebAssembly.compile(await read(input as Parameters<typeof read>[0]));
  } catch (cause) {
    throw explain(cause);
  }
}

async function read(input: BufferSource | Response | URL | string): Promise<BufferSource> {
  if (input instanceof ArrayBuffer || ArrayBuffer.isView(input)) {
    return input;
  }
  const response = typeof input === 'string' || input instanceof URL ? await fetch(input) : input;
  if (!response.ok) {
    throw new Error(`${response.url} answered ${response.status}`);
  }
  return response.arrayBuffer();
}

function explain(cause: unknown): RealtimeError {
  if (cause instanceof RealtimeError) {
    return cause;
  }
  const text = cause instanceof Error ? cause.message : String(cause);
  if (FORBIDDEN.test(text)) {
    return new RealtimeError(
      'wasm-csp',
      "the content security policy forbids WebAssembly: add 'wasm-unsafe-eval' to script-src",
      { cause },
    );
  }
  return new RealtimeError('wasm-load', `the WebAssembly module could not be loaded: ${text}`, {
    cause,
    retryable: true,
  });
}

/** What engines say when a policy forbids to compile. */
const FORBIDDEN = /content security|\bcsp\b|unsafe-eval|disallowed by embedder/i;
