-- The members of a channel: what the presence scripts share. It stands between append.lua and each of them.
--
-- KEYS: 1 position, 2 stream, 3 connections, 4 expiries, 5 users, 6 members.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel, 3 a new epoch, 4 random digits that messages' ids are made from, 5 life of a position (in
--       milliseconds) where the channel has no retention, 6 and 7 the start of the bodies of a member_removed and of a
--       member_updated; and as the last three the eviction window of eviction.rs (milliseconds): from when expired members may be
--       evicted whose connection is lost, from when those whose node is silent, and until when either.
-- Returns: those of the script behind it.
-- Why atomic: who is here and what the channel was told about it are of one moment, on every node and after every crash.
--
-- A user is shown with the info of one connection, the one that joined or was updated last. The others are hidden: of those of
-- a user, the one that was hidden last takes its place.
--
-- connections: connection -> 'h' (here) or 'l' (lost) and the user; 'r' -> size, ttl and life of the channel's history; 's' -> how
-- often a connection was hidden. expiries: connection by the time when it counts as gone.
-- users: 'n' and the user -> how many connections, and which one is shown; 'i' and the user -> the info that is shown; 'o' and a
-- hidden connection -> its place (16 digits) and its info.
-- members: the users, in order, and behind them for each hidden connection '~', the user, a NUL, its place and itself.
-- A user is written as the JSON string that messages hold, which begins with '"' and holds no NUL.

local POSITION, STREAM = KEYS[1], KEYS[2]
local CONNECTIONS, EXPIRIES, USERS, MEMBERS = KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local LOST_FROM, SILENT_FROM, EVICT_UNTIL = unpack(ARGV, #ARGV - 2)
local now = milliseconds()
local is_eviction_deferred = false

-- All four or none: when Redis has evicted one of these keys, the members are not known any more. The nodes join again, in a new epoch.
local kept = redis.call('EXISTS', CONNECTIONS, EXPIRIES, USERS, MEMBERS)
if kept ~= 0 and kept ~= 4 then
  redis.call('DEL', CONNECTIONS, EXPIRIES, USERS, MEMBERS, POSITION, STREAM)
end

local function retention()
  local stored = redis.call('HGET', CONNECTIONS, 'r') or ''
  local size, ttl, life = string.match(stored, '^(%d+) (%d+) (%d+)$')
  return tonumber(size or 0), ttl or '0', life or ARGV[5]
end

-- Redis asks for memory at a script's first write. This one needs none, and what follows is let through: without memory no
-- connection can join, but the members must not be removed for it.
local function insist()
  redis.call('PEXPIREAT', EXPIRIES, now + ARGV[5])
end

-- A message's id names what it says: one call may announce several, and a call that is repeated others than at first.
local function id_of(body)
  return string.sub(redis.sha1hex(ARGV[4] .. ' ' .. body), 1, 16)
end

local function announce(body)
  local size, ttl, life = retention()
  local epoch, failure = append({
    position = POSITION, stream = STREAM, channel = ARGV[2], command = ARGV[1], epoch = ARGV[3],
    size = size, ttl = ttl, position_ttl = life, now = now,
  }, body, id_of(body))
  if not epoch then
    error(failure.err)
  end
end

-- How many connections a user has, and which of them is shown.
local function present(user)
  local count, shown = string.match(redis.call('HGET', USERS, 'n' .. user) or '', '^(%d+) (.+)$')
  return tonumber(count or 0), shown
end

-- The place of a hidden connection among those of its user, and its info.
local function hidden(connection)
  local stored = redis.call('HGET', USERS, 'o' .. connection) or ''
  return string.sub(stored, 1, 16), string.sub(stored, 17)
end

-- Hides the connection that is shown, behind those that were hidden before it.
local function hide(connection, user)
  local place = string.format('%016.0f', redis.call('HINCRBY', CONNECTIONS, 's', 1))
  redis.call('HSET', USERS, 'o' .. connection, place .. redis.call('HGET', USERS, 'i' .. user))
  redis.call('ZADD', MEMBERS, 0, '~' .. user .. '\0' .. place .. connection)
end

-- Shows a hidden connection again; returns its info.
local function unhide(connection, user)
  local place, info = hidden(connection)
  redis.call('HDEL', USERS, 'o' .. connection)
  redis.call('ZREM', MEMBERS, '~' .. user .. '\0' .. place .. connection)
  return info
end

local function about(user, info)
  return '{"id":' .. user .. ',"info":' .. info .. '}'
end

-- Shows one of `count` connections, and tells the channel if that changes what is seen of the user.
local function show(connection, user, count, info)
  local before = redis.call('HGET', USERS, 'i' .. user)
  redis.call('HSET', USERS, 'n' .. user, count .. ' ' .. connection, 'i' .. user, info)
  if before ~= info then
    announce(ARGV[7] .. about(user, info))
  end
end

-- Gives a connection that is here its info. It is shown from now on if it had another one, or was lost: a call that is repeated
-- does not show again what was hidden meanwhile.
local function renew(connection, user, info, was_lost)
  local count, shown = present(user)
  if connection == shown then
    show(connection, user, count, info)
    return
  end
  local _, own = hidden(connection)
  if was_lost or own ~= info then
    unhide(connection, user)
    hide(shown, user)
    show(connection, user, count, info)
  end
end

local function remove(connection, user, reason)
  redis.call('HDEL', CONNECTIONS, connection)
  redis.call('ZREM', EXPIRIES, connection)
  local count, shown = present(user)
  if count > 1 and connection == shown then
    local last = redis.call('ZREVRANGEBYLEX', MEMBERS, '(~' .. user .. '\1', '[~' .. user .. '\0', 'LIMIT', 0, 1)[1]
    local successor = string.sub(last, #user + 19)
    show(successor, user, count - 1, unhide(successor, user))
  elseif count > 1 then
    unhide(connection, user)
    redis.call('HSET', USERS, 'n' .. user, count - 1 .. ' ' .. shown)
  else
    redis.call('HDEL', USERS, 'n' .. user, 'i' .. user)
    redis.call('ZREM', MEMBERS, user)
    announce(ARGV[6] .. '{"id":' .. user .. ',"reason":"' .. reason .. '"}')
  end
end

-- Whether the caller may evict an expired connection. After an outage no connection is evicted whose node could not refresh it, and
-- a call that waited for the end of an outage evicts none at all.
local function may_evict(held)
  local from = string.sub(held, 1, 1) == 'l' and LOST_FROM or SILENT_FROM
  return tonumber(from) <= now and now <= tonumber(EVICT_UNTIL)
end

-- Evicts expired members, out of the first `limit` ones.
local function evict_expired(limit)
  local expired = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', now, 'LIMIT', 0, limit)
  for _, connection in ipairs(expired) do
    local held = redis.call('HGET', CONNECTIONS, connection)
    if may_evict(held) then
      remove(connection, string.sub(held, 2), 'lost')
    else
      is_eviction_deferred = true
    end
  end
end

-- Milliseconds until the next member expires; 0 when some are left to be evicted, -1 when there is no member, -2 when this
-- caller may not evict the next one yet.
local function due()
  local first = redis.call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')
  if not first[2] then
    return -1
  end
  local wait = math.max(0, tonumber(first[2]) - now)
  return wait == 0 and is_eviction_deferred and -2 or wait
end

-- The last step of every script, and always a write: only a master may reply. Members keep the channel's position alive.
local function finish()
  if redis.call('ZCARD', EXPIRIES) == 0 then
    redis.call('DEL', CONNECTIONS, EXPIRIES, USERS, MEMBERS)
    return
  end
  local _, _, life = retention()
  for _, name in ipairs({ CONNECTIONS, EXPIRIES, USERS, MEMBERS, POSITION }) do
    redis.call('PEXPIREAT', name, now + life)
  end
end

