/** The default entry: the module is inside, and nothing has to be fetched or copied. */

import { instantiate } from 'fanfare:glue';
import type { Url } from '../globals.js';
import { RealtimeClient } from '../realtime.js';
import type { ClientOptions, DefaultChannels, WasmInput } from '../types.js';
import { unpack } from '../unpack.js';
import { ModuleLoader } from '../wasm.js';

export * from '../index.js';

const loader = /* @__PURE__ */ new ModuleLoader(() => unpack(FANFARE_MODULE));
const runtime = { load: () => loader.load(), instantiate };

/** One connection to a Fanfare server, with all its channels. */
export class Realtime<Channels = DefaultChannels> extends RealtimeClient<Channels> {
  /** @internal */
  static override readonly name: string = 'Realtime';

  constructor(url: string | Url, options: ClientOptions = {}) {
    super(url, options, runtime);
  }
}

/** Loads the WebAssembly module ahead of the first connection. Optional. */
export async function init(wasm?: WasmInput | Promise<WasmInput>): Promise<void> {
  await loader.load(wasm);
}
