-- Removes a connection: at once for the reason given, or, when its socket was lost, after a grace period.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 connection, 9 'left', 'removed' or 'lost', 10 grace (milliseconds),
--       11 how many expired ones are evicted on the way.
-- Returns: milliseconds until a lost connection counts as gone; -1 when nothing is to be waited for.
-- Why atomic: the channel is told what of it is seen, and nothing else; a loss never lengthens a life.

local connection = ARGV[8]
insist()
evict_expired(ARGV[11])
local held = redis.call('HGET', CONNECTIONS, connection)
local wait = -1
if held and ARGV[9] == 'lost' then
  local expiry = tonumber(redis.call('ZSCORE', EXPIRIES, connection))
  if string.sub(held, 1, 1) == 'h' then
    expiry = math.min(expiry, now + ARGV[10])
    redis.call('HSET', CONNECTIONS, connection, 'l' .. string.sub(held, 2))
    redis.call('ZADD', EXPIRIES, expiry, connection)
  end
  wait = math.max(0, expiry - now)
elseif held then
  remove(connection, string.sub(held, 2), ARGV[9])
end
finish()
return wait
