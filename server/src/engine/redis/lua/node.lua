-- Keeps a node on the list of those that live, says something to nodes, and answers who lives.
--
-- KEYS: 1 the list: nodes by the time until which they count as alive.
-- ARGV: 1 node, 2 lease (milliseconds; 0 takes the node off the list), 3 PUBLISH or SPUBLISH, 4 channel ('' says nothing),
--       5 message.
-- Returns: the nodes that live, in no order.
-- Why atomic: whoever is on the answered list is subscribed and gets what is said here. It writes, because only a master may
--             say anything.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if lease > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], lease * 2)
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
if ARGV[4] ~= '' then
  redis.call(ARGV[3], ARGV[4], ARGV[5])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
