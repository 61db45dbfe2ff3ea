-- Keeps a node on the list of live nodes, publishes a request or a reply, and returns the live nodes.
--
-- KEYS: 1 the list: nodes, each with its format in front, by the time until which they count as alive.
-- ARGV: 1 format, 2 node, 3 lease (milliseconds; 0 takes the node off the list), 4 PUBLISH or SPUBLISH, 5 channel ('' publishes
--       nothing), 6 message.
-- Returns: the nodes that live, in no order. A node that is not among them and whose format is not theirs was not added, and
--       nothing was published.
-- Why atomic: every node on the returned list is subscribed and receives the message, and nodes of two formats never come
--             onto one list. It writes, because only a master may publish.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, lease = ARGV[1] .. ':' .. ARGV[2], tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1)
local is_listed, has_others = false, false
for _, node in ipairs(nodes) do
  -- Releases that knew of no formats wrote the node alone, theirs is 1. What is neither was written by another program.
  local format = string.match(node, '^(%d+):%x+$') or string.match(node, '^%x+$') and '1'
  is_listed = is_listed or node == own
  has_others = has_others or format and format ~= ARGV[1]
end
if has_others and not is_listed then
  return nodes
end
if lease > 0 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), own)
  redis.call('PEXPIRE', KEYS[1], lease * 2)
else
  redis.call('ZREM', KEYS[1], own)
end
if ARGV[5] ~= '' then
  redis.call(ARGV[4], ARGV[5], ARGV[6])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
