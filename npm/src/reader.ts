import { CHANNEL, EVENT, personal, problem } from './names.js';
import type { Message } from './seam.js';
import { Input, Said } from './table.js';
import { bits, positionItems, type Values } from './values.js';

/**
 * Reads one message as numbers for the machine, beginning with an `Input`: none for a type of tomorrow, {@link Input.Unreadable} for
 * what is no message.
 */
export function read(message: any, values: Values): number[] {
  try {
    const type = message?.type;
    const [input, fields, rest] = MESSAGES[typeof type === 'string' ? type : fail()] ?? [];
    return fields ? [input as Input, ...all(fields, message, values), ...(rest?.(message, values) ?? [])] : [];
  } catch {
    return [Input.Unreadable];
  }
}

type Rule = (value: any, values: Values) => readonly number[];

/** A name with a question mark may be absent. `null` counts as that. */
type Fields = readonly [name: string, rule: Rule][];

/** What fields become, one after the other. */
function all(fields: Fields, object: Message, values: Values): number[] {
  return fields.flatMap(([name, rule]) => {
    const field = name.replace('?', '');
    return rule(object[field] ?? (field === name ? fail() : undefined), values);
  });
}

function fail(): never {
  throw new TypeError();
}

/** What a value that is right becomes, and what one that is absent. */
function rule(isRight: (value: any, values: Values) => unknown, items: Rule = () => [], absent: number[] = []): Rule {
  return (value, values) => (value === undefined ? absent : isRight(value, values) ? items(value, values) : fail());
}

const upTo = (max: number): Rule =>
  rule((value) => Number.isSafeInteger(value) && value >= 0 && value <= max, (value) => [value], [-1]);
const isText = (value: unknown) => typeof value === 'string';
const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
const put: Rule = (value, values) => [values.put(value)];

const whole = upTo(2 ** 53);
const small = upTo(2 ** 16 - 1);
const flag = rule((value) => typeof value === 'boolean', (value) => [+value]);
const text = rule(isText, put);
const channel = rule((value) => problem(value, CHANNEL) === undefined, put);
/** A user is known by their own channel. */
const user = rule(personal, (value, values) => put(personal(value), values), [0]);
const hexadecimal = rule((value) => isText(value) && /^[\da-f]{1,16}$/.test(value), bits, [-1]);
const position = rule((value, values) => isObject(value) && all(POSITION, value, values), positionItems, [-1]);

const isMember = (value: any) => isObject(value) && personal(value.id) && value.info !== undefined;
const presence = rule(
  (value, values) => isObject(value) && all([['count', whole]], value, values) && Array.isArray(value.members) && value.members.every(isMember),
  () => [1],
  [0],
);

/** What the connection may ask for. */
const limits = rule(isObject, (value, values) => all(LIMITS, value, values), [-1]);

/** A payload may be `null`. */
const event = rule(
  (value) => isObject(value) && problem(value.event, EVENT) === undefined && value.data !== undefined,
  (value, values) => {
    const { event: name, data } = value;
    const [, change] = /^member_(added|updated|removed)$/.exec(name) ?? [];
    const isReadable = isMember({ info: change === 'removed' ? 0 : undefined, ...data });
    const said = change === undefined ? [Said.Content] : isReadable ? [Said.Change, values.put(value)] : [Said.Unreadable];
    return [...said, ...all(EVENT_FIELDS, value, values)];
  },
);
const events = rule(
  Array.isArray,
  (value, values) => [value.length, ...value.flatMap((item: unknown) => event(item, values))],
  [0],
);

const POSITION: Fields = [
  ['epoch', hexadecimal],
  ['offset', whole],
  ['tag', hexadecimal],
];

const LIMITS: Fields = [
  ['channels_max', whole],
  ['commands_per_second', whole],
  ['commands_burst', whole],
  ['message_bytes_max', whole],
  ['bytes_per_second?', whole],
  ['bytes_burst?', whole],
  ['idempotency_window?', whole],
];

const EVENT_FIELDS: Fields = [
  ['offset?', whole],
  ['tag?', hexadecimal],
  ['epoch?', hexadecimal],
  ['user_id?', rule(personal)],
  ['event_id?', rule(isText)],
];

const REFUSAL: Fields = [
  ['id?', whole],
  ['code', small],
  ['error', text],
  ['retry', flag],
  ['retry_after?', whole],
];

/** What each type is for the machine, its fields in that order, and what follows them. */
const MESSAGES: Record<string, [Input, Fields, Rule?]> = {
  // No name that every object has is a type.
  __proto__: null as never,
  connected: [
    Input.Connected,
    [
      ['socket_id', rule((value) => isText(value) && /^[\da-f]{32}$/.test(value))],
      ['user_id?', user],
      ['protocol', upTo(2 ** 32 - 1)],
      ['ping_interval', whole],
      ['max_payload_size', whole],
      ['server_time', whole],
      ['limits?', limits],
    ],
  ],
  ok: [
    Input.Ok,
    [
      ['id', whole],
      ['user_id?', user],
      ['expires_at?', whole],
      ['position?', position],
      ['event_id?', rule(isText)],
      ['events?', rule((value, values) => events(value, values))],
    ],
    (message, values) => {
      message.events?.length > 0 && all([['channel', channel]], message, values);
      return presence(message.members == null ? undefined : message, values);
    },
  ],
  error: [Input.Error, REFUSAL],
  subscription_succeeded: [
    Input.Subscribed,
    [
      ['channel', channel],
      ['id?', whole],
      ['position?', position],
      ['recovered', flag],
      ['user_id?', rule(personal)],
      ['presence?', presence],
      ['events?', events],
    ],
  ],
  subscription_error: [Input.Refused, [['channel', channel], ...REFUSAL]],
  unsubscribed: [
    Input.Unsubscribed,
    [
      ['channel', channel],
      ['id?', whole],
      ['code', small],
      ['reason', text],
    ],
  ],
  event: [Input.Event, [['channel', channel]], event],
  skipped: [
    Input.Skipped,
    [
      ['channel', channel],
      ['offset', whole],
      ['tag', hexadecimal],
      ['epoch?', hexadecimal],
    ],
  ],
  gap: [
    Input.Gap,
    [
      ['channel', channel],
      ['from?', whole],
      ['to?', whole],
      ['reason', text],
    ],
  ],
  reset: [
    Input.Reset,
    [
      ['channel', channel],
      ['position', position],
      ['reason', text],
    ],
  ],
  pong: [Input.Pong, [['timestamp', whole]]],
  disconnect: [
    Input.Leaving,
    [
      ['code', small],
      ['reason', text],
      ['reconnect', flag],
      ['after', whole],
    ],
  ],
};
