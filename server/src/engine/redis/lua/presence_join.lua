-- Adds a connection of a user, which is shown from now on. Joining twice is one membership, and undoes a loss.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 connection, 9 user, 10 info, 11 lease (milliseconds), 12 how many expired
--       ones are evicted on the way, 13 size, ttl and life of the channel's history, 14 what the body of a member_added begins
--       with.
-- Returns: 1.
-- Why atomic: of any number of connections that join at once, one is the user's first and is announced.

local connection, user, info = ARGV[8], ARGV[9], ARGV[10]
-- The first write: Redis asks for memory here, before any member is evicted.
redis.call('HSET', CONNECTIONS, 'r', ARGV[13])
evict_expired(ARGV[12])
local held = redis.call('HGET', CONNECTIONS, connection)
if held and string.sub(held, 2) ~= user then
  remove(connection, string.sub(held, 2), 'left')
  held = false
end
redis.call('HSET', CONNECTIONS, connection, 'h' .. user)
redis.call('ZADD', EXPIRIES, now + ARGV[11], connection)
local count, shown = present(user)
if held then
  renew(connection, user, info, string.sub(held, 1, 1) == 'l')
elseif count > 0 then
  hide(shown, user)
  show(connection, user, count + 1, info)
else
  redis.call('HSET', USERS, 'n' .. user, '1 ' .. connection, 'i' .. user, info)
  redis.call('ZADD', MEMBERS, 0, user)
  announce(ARGV[14] .. about(user, info))
end
finish()
return 1
