import { RealtimeError } from './errors.js';

/** What a kind of name is called, what it must not contain, and how long it may be. */
type Grammar = readonly [what: string, wrong: RegExp, bytesMax: number];

export const CHANNEL: Grammar = ['channel name', /[^\w\-=@,.;:]/u, 200];
export const EVENT: Grammar = ['event name', /[^ -~]/u, 200];
export const KEY: Grammar = ['idempotency key', /[^ -~]/u, 128];

/** What is wrong with a name. */
export function problem(name: unknown, [what, wrong, bytesMax]: Grammar): string | undefined {
  if (typeof name !== 'string' || name === '') {
    return `the ${what} must not be empty`;
  }
  const found = wrong.exec(name);
  return name.length > bytesMax
    ? `the ${what} is too long`
    : found
      ? `the ${what} must not contain \`${found[0]}\``
      : undefined;
}

/** A name that is one. */
export function named(name: string, grammar: Grammar): string {
  const wrong = problem(name, grammar);
  if (wrong !== undefined) {
    throw new RealtimeError('bad-argument', wrong);
  }
  return name;
}

/** The channel of a user's own; `undefined` for what is no user's id. Other characters than a channel's are written as bytes. */
export function personal(user: unknown): string | undefined {
  if (typeof user !== 'string' || user === '' || /[\0-\x1f\x7f-\x9f]/.test(user)) {
    return undefined;
  }
  // Not every runtime has a `TextEncoder`. What is no Unicode text throws, and is no user's id either.
  const escaped = encodeURIComponent(user).replace(/[!'()*~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
  const bytes = escaped.replace(/%../g, '.').length;
  const name = `user:${escaped.replace(/%(40|2C|3B|3A)/g, decodeURIComponent).replaceAll('%', '=')}`;
  return bytes > 128 || name.length > 200 ? undefined : name;
}

/** Whose own channel it is. */
export function owner(channel: string | undefined): string | null {
  return channel === undefined ? null : decodeURIComponent(channel.slice(5).replaceAll('=', '%'));
}
