import type { Position } from './seam.js';

/** How far a channel has been handed out, known outside of the machine: if that has to be replaced, the next continues here. */
export class Tracker {
  epoch: string | undefined;
  offset = 0;
  tag = '';

  /** Where the last message stands that was handed out. */
  get position(): Position | undefined {
    const { epoch, offset, tag } = this;
    return epoch === undefined ? undefined : { epoch, offset, tag };
  }

  move(position: Position | undefined): void {
    this.epoch = position?.epoch;
    this.advance(position?.offset ?? 0, position?.tag ?? '');
  }

  /** Moves within the epoch. */
  advance(offset: number, tag: string): void {
    this.offset = offset;
    this.tag = tag;
  }
}
