-- Publishes one message on a channel without positions.
--
-- KEYS: 1 the channel's count: 'n' the number of its last message; in a Cluster also 'r', 'e' and 's', the lineage and the term.
--       2 (optional) what became of the publication with this idempotency key.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel, 3 body, 4 count ttl, 5 key ttl (milliseconds), 6 '1' when the caller waits for replicas or the disk, else '',
--       7 the message's id.
-- Returns: 1 when an earlier publication with this key stood already, else 0.
-- WAIT and WAITAOF wait for the last write of the connection that asks. So an answer about what stood already writes
-- too: PEXPIRE on a key that was just found always reaches replicas and log (as PEXPIREAT). The count may be gone by then.
-- Why atomic: of any number of repetitions one is published. The count is the write that a replica refuses, where a mere
--             PUBLISH would reach no subscriber and be called a success; and subscribers see by it whether they missed a message.
--
-- Numbers are those of one term of a master. Masters of a Cluster hand messages on to their replicas, so that a master that was
-- replaced and does not know is heard by the subscribers of the new one: numbers alone cannot tell its messages, which are to be
-- dropped, from those of a new master that lacks the last ones. A term is the config-epoch, which a failover raises, and the time
-- since when this server counts. A server knows that it counts for the first time by its replication id: another one after every
-- promotion and every start. What both masters were given is known by its id. Elsewhere a connection hears one server alone, and the term is always 0 0.

local count, key = KEYS[1], KEYS[2]
if key and redis.call('EXISTS', key) == 1 then
  if ARGV[6] == '1' then
    local left = redis.call('PTTL', key)
    redis.call('PEXPIRE', key, left > 0 and left or ARGV[5])
  end
  return 1
end

local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local lineage, epoch, since = nil, '0', '0'
if ARGV[1] == 'SPUBLISH' then
  local info = redis.pcall('INFO', 'replication')
  lineage = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
  local stored = redis.call('HMGET', count, 'r', 'e', 's')
  epoch, since = stored[2] or '0', stored[3] or '0'
  if lineage and stored[1] == lineage then
    lineage = nil
  elseif lineage then
    local cluster = redis.pcall('CLUSTER', 'INFO')
    local own = type(cluster) == 'string' and string.match(cluster, 'cluster_my_epoch:(%d+)')
    epoch = string.format('%.0f', math.max(tonumber(epoch), tonumber(own or 0)))
    since = string.format('%.0f', math.max(microseconds(), tonumber(since) + 1))
  end
end

local number = redis.call('HINCRBY', count, 'n', 1)
local previous = number - 1
if number == 1 then
  -- A count that was forgotten goes on above all its earlier numbers: there is less than one message per microsecond.
  number = microseconds()
  redis.call('HSET', count, 'n', string.format('%.0f', number))
end
if lineage then
  redis.call('HSET', count, 'r', lineage, 'e', epoch, 's', since)
end
redis.call('PEXPIRE', count, ARGV[4])
local head = string.format('0 %s %s %.0f %.0f %s ', epoch, since, previous, number, ARGV[7])
redis.call(ARGV[1], ARGV[2], head .. ARGV[3])
if key then
  redis.call('SET', key, '-', 'PX', ARGV[5])
end
return 0
