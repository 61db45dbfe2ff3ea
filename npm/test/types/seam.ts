// Both sides of the border say the same.

import { Machine } from '../../wasm/fanfare_client_wasm.js';
import type * as ours from '../../src/seam.js';

export const machine: ours.MachineClass = Machine;
