import type { NodeAccess } from './seam.js';

/** The values that the module looks at, by number, for as long as something may come of them. */
export class Nodes implements NodeAccess {
  /** 0 stands for nothing and 1 for `null`. Numbers are not used again: one that the module has kept finds nothing. */
  #first = 2;
  #values: unknown[] = [];

  put(value: unknown): number {
    if (value === undefined) {
      return 0;
    }
    return value === null ? 1 : this.#first + this.#values.push(value) - 1;
  }

  /** `undefined` for a value that is let go of. */
  at(node: number): any {
    return node === 1 ? null : this.#values[node - this.#first];
  }

  /** Lets go of all values. */
  clear(): void {
    this.#first = this.#first > LAST ? 2 : this.#first + this.#values.length;
    this.#values = [];
  }

  kind(node: number): number {
    const value = this.at(node);
    return Array.isArray(value) ? 4 : value === true ? 2 : typeof value === 'object' && value !== null ? 3 : +(value === false);
  }

  field(node: number, name: string): number {
    return this.put(this.at(node)[name]);
  }

  item(node: number, at: number): number {
    return this.put(this.at(node)[at]);
  }

  number(node: number): number {
    const value = this.at(node);
    return typeof value === 'number' ? value : Array.isArray(value) ? value.length : NaN;
  }

  text(node: number): string | undefined {
    const value = this.at(node);
    return typeof value === 'string' ? value : undefined;
  }
}

/** Half of what the module can count: reached by nobody, and then the numbers begin again. */
const LAST = 2 ** 31;
