-- Asks a master for the time.
--
-- KEYS: 1 any key of the server that is asked. It is never written.
-- ARGV: none.
-- Returns: the time (milliseconds).
-- Why atomic: the time is that of a moment in which the server took a write. Whatever refuses a refresh refuses this, so that
--             a node that receives the time knows that every other node could have refreshed there as well.

redis.call('PEXPIRE', KEYS[1], 1)
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
