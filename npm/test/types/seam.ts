// Both sides of the border say the same.

import { Machine } from '../../wasm/fanfare_client_wasm.js';
import type * as theirs from '../../wasm/fanfare_client_wasm.js';
import type * as ours from '../../src/seam.js';

export const machine: ours.MachineClass = Machine;
export const given: (ours: ours.MachineOptions) => theirs.MachineOptions = (options) => options;
export const told: (theirs: theirs.MachineStatus) => ours.MachineStatus = (status) => status;
export const failed: (theirs: theirs.MachineError) => ours.MachineError = (error) => error;
export const replied: (theirs: theirs.MachineReply) => ours.MachineReply = (reply) => reply;
export const heard: (ours: ours.Host) => Required<theirs.Host>['message'] = ({ message }) => message;
export const states: (theirs: theirs.MachineChannelState) => ours.MachineChannelState = (state) => state;
