-- Publishes one message on a channel without positions.
--
-- KEYS: 1 count of the channel's messages, 2 (optional) what became of the publication with this idempotency key.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel, 3 body, 4 count ttl, 5 key ttl (milliseconds), 6 '1' when the caller waits for replicas or the disk, else ''.
-- Returns: 1 when an earlier publication with this key stood already, else 0.
-- Whoever waits (WAIT, WAITAOF) waits for the last write of the own connection. So an answer about what stood already writes
-- too: PEXPIRE on a key that was just found always reaches replicas and log (as PEXPIREAT). The count may be gone by then.
-- Why atomic: of any number of repetitions one is published. The count is the write that a replica refuses, where a mere
--             PUBLISH would reach nobody and be called a success; and subscribers see by it whether they missed a message.

local count, key = KEYS[1], KEYS[2]
if key and redis.call('EXISTS', key) == 1 then
  if ARGV[6] == '1' then
    local left = redis.call('PTTL', key)
    redis.call('PEXPIRE', key, left > 0 and left or ARGV[5])
  end
  return 1
end

local number = redis.call('INCR', count)
local previous = number - 1
if number == 1 then
  -- A count that was forgotten goes on above all its earlier numbers: there is less than one message per microsecond.
  local time = redis.call('TIME')
  number = time[1] * 1000000 + time[2]
  redis.call('SET', count, string.format('%.0f', number))
end
redis.call('PEXPIRE', count, ARGV[4])
redis.call(ARGV[1], ARGV[2], string.format('0 %.0f %.0f ', previous, number) .. ARGV[3])
if key then
  redis.call('SET', key, '-', 'PX', ARGV[5])
end
return 0
