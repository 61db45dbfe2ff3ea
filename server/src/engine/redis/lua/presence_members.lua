-- The members of a channel, and the position at which that list holds.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 how many expired ones are evicted at most, 9 how many members are
--       listed at most, 10 position ttl of a channel without a message (milliseconds), 11 a connection whose user is listed
--       besides them, or nothing. A member whose eviction is deferred is listed.
-- Returns: nothing when some are left to be evicted: the call is repeated. Else epoch, offset, tag, count, whether an
--       eviction was deferred (1 or 0), and user and info of each member, in the order of the users.
-- Why atomic: the snapshot is the sum of all messages up to its position, and of no other.

evict_expired(ARGV[8])
if due() == 0 then
  finish()
  return {}
end
local epoch, offset, tag = stands(POSITION)
if not epoch then
  epoch, offset, tag = ARGV[3], 0, '0'
  redis.call('DEL', STREAM)
  redis.call('HSET', POSITION, 'e', epoch, 's', '0', 't', '0')
  redis.call('PEXPIRE', POSITION, ARGV[10])
end
-- Behind the users stand the connections that are hidden.
local count = redis.call('ZLEXCOUNT', MEMBERS, '-', '(~')
local answer = { epoch, string.format('%.0f', offset), tag, count, is_eviction_deferred and 1 or 0 }
-- 1000: what fits on Lua's stack with room to spare.
local CHUNK = 1000
local limit = tonumber(ARGV[9])
for first = 0, math.min(limit, count) - 1, CHUNK do
  local users = redis.call('ZRANGE', MEMBERS, first, math.min(first + CHUNK, limit, count) - 1)
  local fields = {}
  for index, user in ipairs(users) do
    fields[index] = 'i' .. user
  end
  local infos = redis.call('HMGET', USERS, unpack(fields))
  for index, user in ipairs(users) do
    answer[#answer + 1] = user
    answer[#answer + 1] = infos[index]
  end
end
-- A user must find itself in a list that is capped.
local own = redis.call('HGET', CONNECTIONS, ARGV[11])
if own then
  local user = string.sub(own, 2)
  local rank = redis.call('ZRANK', MEMBERS, user)
  if rank and rank >= limit then
    answer[#answer + 1] = user
    answer[#answer + 1] = redis.call('HGET', USERS, 'i' .. user)
  end
end
finish()
return answer
