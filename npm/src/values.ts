import type { Position } from './seam.js';
import { CHANNEL_KINDS } from './table.js';

/**
 * What the machine may have to hand on, by number. A number is not used again before all others were.
 *
 * What was numbered is told to the machine in the same turn: between turns what it does not hold may be let go of.
 */
export class Values {
  readonly #numbers = new Map<unknown, number>();
  readonly #values = new Map<number, any>();
  #last = 0;
  #room = ROOM;

  /** The number of a value, the same each time; 0 for none. That of a channel says of which kind it is. */
  put(value: unknown): number {
    if (value == null) {
      return 0;
    }
    let number = this.#numbers.get(value);
    if (number === undefined) {
      const kind = typeof value === 'string' ? CHANNEL_KINDS.findIndex((prefix) => value.startsWith(prefix)) + 1 : 0;
      do {
        this.#last = (this.#last + 4) % LAST;
        number = this.#last + kind;
      } while (number < 4 || this.#values.has(number));
      this.#numbers.set(value, number);
      this.#values.set(number, value);
    }
    return number;
  }

  at(number: number | undefined): any {
    return this.#values.get(number as number);
  }

  /** Lets go of what is not held any more, when there are many. */
  sweep(held: () => number[]): void {
    if (this.#values.size > this.#room) {
      const kept = new Set(held());
      for (const [number, value] of this.#values) {
        if (!kept.has(number)) {
          this.#values.delete(number);
          this.#numbers.delete(value);
        }
      }
      this.#room = 2 * this.#values.size + ROOM;
    }
  }
}

/** What the module can count to. */
const LAST = 2 ** 32;

/** 100: as many values are let go of at a time, or as many as are held. */
const ROOM = 100;

/** The upper and the lower half of the number that up to 16 hexadecimal digits write. */
export function bits(text: string): [number, number] {
  return [parseInt(text.slice(0, -8) || '0', 16), parseInt(text.slice(-8), 16)];
}

/** A position as numbers. */
export function positionItems({ epoch, offset, tag }: Position): number[] {
  return [offset, ...bits(epoch), ...bits(tag)];
}

/** A position from numbers, where there is one. */
export function positionOf([offset = -1, ...halves]: number[]): Position | undefined {
  return offset < 0 ? undefined : { epoch: hexadecimal(halves[0]!, halves[1]!), offset, tag: hexadecimal(halves[2]!, halves[3]!) };
}

/** Without a BigInt: its literals cannot be compiled for the targets of older bundlers. */
function hexadecimal(high: number, low: number): string {
  const lower = low.toString(16);
  return high === 0 ? lower : high.toString(16) + lower.padStart(8, '0');
}
