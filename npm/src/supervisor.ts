import { RealtimeError } from './errors.js';
import { guard } from './guard.js';
import type { Driver } from './driver.js';
import type { MachineClass, Seam } from './seam.js';

/** Makes an instance of the module, with memory of its own. */
export type Instantiate = (
  module: WebAssembly.Module,
  guard: (exports: WebAssembly.Exports) => WebAssembly.Exports,
  seam: Seam,
) => MachineClass;

/** What a keeper is made with. */
export interface SupervisorOptions {
  load(): Promise<WebAssembly.Module>;
  instantiate: Instantiate;
  create(instantiate: (seam: Seam) => MachineClass): Driver;
  /** There is a machine now that knows nothing yet; `isNew` is false when it replaces one that trapped. */
  began(driver: Driver, isNew: boolean): void;
  /** The machine trapped and is gone. */
  lost(cause: unknown): void;
  /** There is no machine, and none will come unless `start` is called again. */
  failed(error: RealtimeError): void;
}

/** Loads the machine when it is needed, and replaces it when its instance traps. */
export class MachineSupervisor {
  readonly #options: SupervisorOptions;
  #driver: Driver | null = null;
  #module: WebAssembly.Module | null = null;
  #isLoading = false;
  #isClosed = false;
  #traps: number[] = [];

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** The loop around the machine, where there is one. */
  get driver(): Driver | null {
    return this.#driver;
  }

  /** Sees to it that there will be a machine. */
  start(): void {
    if (this.#driver !== null || this.#isLoading || this.#isClosed) {
      return;
    }
    this.#isLoading = true;
    this.#options
      .load()
      .then((module) => {
        this.#module = module;
        this.#begin(true);
      })
      .catch((error: unknown) => this.#fail(error));
  }

  close(): void {
    this.#isClosed = true;
    this.#driver?.close();
    this.#driver = null;
  }

  #begin(isNew: boolean): void {
    this.#isLoading = false;
    if (this.#isClosed || this.#module === null) {
      return;
    }
    // The instance may trap before it has been handed out.
    const instance: { driver: Driver | null; isDead: boolean } = { driver: null, isDead: false };
    const trapped = (cause: unknown) => {
      instance.isDead = true;
      instance.driver?.close();
      if (instance.driver === null || instance.driver === this.#driver) {
        this.#trapped(cause);
      }
    };
    const module = this.#module;
    const guarded = (exports: WebAssembly.Exports) => guard(exports, trapped);
    const driver = this.#options.create((seam) => this.#options.instantiate(module, guarded, seam));
    instance.driver = driver;
    if (instance.isDead) {
      driver.close();
    } else {
      this.#driver = driver;
      this.#options.began(driver, isNew);
    }
  }

  #trapped(cause: unknown): void {
    this.#driver = null;
    if (this.#isClosed) {
      return;
    }
    const now = Date.now();
    this.#traps = [...this.#traps.filter((time) => now - time < TRAPS_WITHIN), now];
    this.#options.lost(cause);
    if (this.#traps.length > TRAPS_MAX) {
      this.#traps = [];
      this.#fail(new RealtimeError('internal', 'the client stopped working again and again', { cause }));
      return;
    }
    this.#isLoading = true;
    // What is on the stack belongs to the instance that is gone: the next one begins after it.
    queueMicrotask(() => {
      try {
        this.#begin(false);
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #fail(error: unknown): void {
    this.#isLoading = false;
    const known =
      error instanceof RealtimeError
        ? error
        : new RealtimeError('internal', 'the client could not be started', { cause: error });
    if (!this.#isClosed) {
      this.#options.failed(known);
    }
  }
}

/** Something that traps each time must not do so for ever. */
const TRAPS_MAX = 3;
const TRAPS_WITHIN = 60_000;
