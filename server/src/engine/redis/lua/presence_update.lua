-- Replaces the info of a connection, which is shown from now on unless it had that info already.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 connection, 9 info, 10 how many expired ones are evicted on the way,
--       11 size, ttl and life of the channel's history.
-- Returns: 1 when the connection is here, lost or not, else 0.
-- Why atomic: what is shown and what the channel was told about it are of one moment.

-- The first write: Redis asks for memory here, before any member is evicted.
if kept == 4 then
  redis.call('HSET', CONNECTIONS, 'r', ARGV[11])
end
evict_expired(ARGV[10])
local held = redis.call('HGET', CONNECTIONS, ARGV[8])
if held then
  renew(ARGV[8], string.sub(held, 2), ARGV[9], false)
end
finish()
return held and 1 or 0
