/** What every entry exports besides its `Realtime` and its `init`. */

export { RealtimeError, UnauthorizedError, type ErrorCode, type ErrorDetails } from './errors.js';
export type { Position } from './seam.js';
export type * from './types.js';
