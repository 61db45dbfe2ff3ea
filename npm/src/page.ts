import { Input } from './table.js';

/** What a page lives through, where there is a page: in Node and in workers part of it never happens. Returns what ends it. */
export function watchPage(tell: (input: Input) => void): () => void {
  const { document } = globalThis;
  const listen = ({ type, persisted }: Event & { persisted?: boolean }) => {
    if (type === 'online') {
      tell(Input.Online);
    } else if (type === 'offline') {
      tell(Input.Offline);
    } else if (type === 'pagehide') {
      // A page with an open socket is not taken into the back/forward cache.
      persisted && tell(Input.Suspend);
    } else if (type === 'pageshow' ? persisted : type === 'resume' || !document.hidden) {
      tell(Input.Wake);
    }
  };
  const targets = [
    [globalThis, ['online', 'offline', 'pageshow', 'pagehide']],
    // A hidden or frozen page keeps its connection: the server's patience decides, and `Wake` finds out.
    [document, ['visibilitychange', 'resume']],
  ] as const;
  const each = (act: 'addEventListener' | 'removeEventListener') => {
    for (const [target, kinds] of targets) {
      for (const kind of kinds) {
        target?.[act]?.(kind, listen as EventListener);
      }
    }
  };
  each('addEventListener');
  return () => each('removeEventListener');
}
