/** How TypeScript and the wasm module call each other: the counterpart of `client-wasm/src/machine/`. */

import type { Input, Output } from './table.js';

/** Where a channel stands. Keep it to continue there later. */
export interface Position {
  readonly epoch: string;
  readonly offset: number;
  readonly tag: string;
}

/** The machine of `client-wasm`. Values are given as {@link Values} number them; one instance of the module has one machine. */
export interface Machine {
  /** Takes in what {@link Seam.take} gives, beginning with an {@link Input}. */
  input(now: number): void;
  /** 1 for a message that is exactly the next one of its channel; 0: it is an input. `offset` is -1 where there is none. */
  follow(channel: number, offset: number, tagHigh: number, tagLow: number, now: number): number;
  /** Puts the next thing to do out, beginning with an {@link Output}: 1; or 0 when there is nothing. */
  poll(): number;
  /** Puts out where a channel stands. */
  position(channel: number): void;
  /** Puts out every value that is kept. */
  held(): void;
  /** When to say that the time has come; negative when there is no such time. */
  timeout(): number;
}

/** The options go in with it. */
export type MachineClass = new (randomHigh: number, randomLow: number) => Machine;

/** How the module is given numbers and gives some: `client-wasm/src/machine/numbers.rs`. */
export interface Seam {
  take(): number;
  put(number: number): void;
}

/*
 * What the numbers mean is in `table.ts`. A value is its number, 0 where there is none; another number that may be absent is -1 then; a
 * flag is 1 or 0. An epoch or a tag is two numbers, its upper and its lower 32 bits; a position an offset, an epoch and a tag.
 */

/** A message, as it was parsed. */
export type Message = Record<string, any>;
