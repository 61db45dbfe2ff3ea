/** Without the module: the application brings it, from wherever it likes, with `init`. */

import { instantiate } from 'fanfare:glue';
import { RealtimeError } from '../errors.js';
import type { Url } from '../globals.js';
import { RealtimeClient } from '../realtime.js';
import type { ClientOptions, DefaultChannels, WasmInput } from '../types.js';
import { ModuleLoader } from '../wasm.js';

export * from '../index.js';

const loader = /* @__PURE__ */ new ModuleLoader(() => {
  throw new RealtimeError('wasm-load', 'call init() with the WebAssembly module before the first connection');
});
const runtime = { load: () => loader.load(), instantiate };

/** One connection to a Fanfare server, with all its channels. */
export class Realtime<Channels = DefaultChannels> extends RealtimeClient<Channels> {
  /** @internal */
  static override readonly name: string = 'Realtime';

  constructor(url: string | Url, options: ClientOptions = {}) {
    super(url, options, runtime);
  }
}

/** Brings the WebAssembly module: compiled, as bytes, as a response, or where to fetch it. */
export async function init(wasm: WasmInput | Promise<WasmInput>): Promise<void> {
  await loader.load(wasm);
}
