import type { Position } from './seam.js';

/**
 * How far a channel is, known outside of the machine: if its instance has to be replaced, the next one continues here.
 *
 * The machine is asked for the position now and then only. It is therefore a little behind, and what comes a second time
 * is recognised by its offset.
 */
export class Tracker {
  /** A position of which everything before has been handed out. */
  position: Position | undefined;
  #epoch: string | undefined;
  #offset = 0;
  #unsaved = 0;
  #isReplaying = false;

  /** Takes note of a message. Whether it is new. */
  isNew(epoch: string | undefined, offset: number | undefined): boolean {
    if (offset === undefined) {
      return true;
    }
    if (this.#isReplaying) {
      if (epoch === this.#epoch && offset <= this.#offset) {
        return false;
      }
      this.#isReplaying = false;
    }
    this.#epoch = epoch;
    this.#offset = offset;
    this.#unsaved += 1;
    return true;
  }

  /** Whether it is time to ask the machine. */
  isBehind(): boolean {
    return this.#unsaved >= SAVE_EVERY;
  }

  save(position: Position | undefined): void {
    this.position = position;
    this.#unsaved = 0;
  }

  /** Another machine continues from `position`. */
  replay(): void {
    this.#isReplaying = this.#epoch !== undefined;
  }

  /** The subscription is over, or its history began anew. */
  forget(): void {
    this.position = undefined;
    this.#epoch = undefined;
    this.#offset = 0;
    this.#unsaved = 0;
    this.#isReplaying = false;
  }
}

/** 16: well below any history that is kept, and rare enough to cost nothing. */
const SAVE_EVERY = 16;
