-- Adds a connection of a user. Joining twice is one membership, and undoes a loss; the last info wins.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 7 connection, 8 user, 9 info, 10 lease (milliseconds), 11 how many expired
--       ones are taken out on the way, 12 size, ttl and life of the channel's history, 13 body of the member_added.
-- Returns: 1.
-- Why atomic: of any number of connections that join at once, one is the user's first and is announced.

local connection, user = ARGV[7], ARGV[8]
-- The first write: Redis asks for memory here, before anything is taken out.
redis.call('HSET', CONNECTIONS, 'r', ARGV[12])
reap(ARGV[11])
local held = redis.call('HGET', CONNECTIONS, connection)
if held and string.sub(held, 2) ~= user then
  remove(connection, string.sub(held, 2), 'left')
  held = false
end
redis.call('HSET', CONNECTIONS, connection, 'h' .. user)
redis.call('ZADD', EXPIRIES, now + ARGV[10], connection)
redis.call('HSET', USERS, 'i' .. user, ARGV[9])
if not held and redis.call('HINCRBY', USERS, 'n' .. user, 1) == 1 then
  redis.call('ZADD', MEMBERS, 0, user)
  announce(ARGV[13])
end
finish()
return 1
