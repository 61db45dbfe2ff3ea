// What the examples import besides this package.

declare module 'ws' {
  export const WebSocket: typeof globalThis.WebSocket;
}

declare module 'react' {
  export function useSyncExternalStore<T>(subscribe: (onChange: () => void) => () => void, get: () => T, onServer?: () => T): T;
  export function useEffect(effect: () => void | (() => void), dependencies: unknown[]): void;
}
