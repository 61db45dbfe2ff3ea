-- Tries every command that the other scripts use, on keys and a channel named like theirs, and leaves nothing behind.
--
-- KEYS: keys of one slot, none of which is in use.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel.
-- Returns: for each command that is denied, its name and what Redis says. Whatever else goes wrong (no memory, a replica) is
--          not looked at here.
-- Why atomic: it need not be. It is a script, because commands are denied inside of scripts in words of their own.

local key = KEYS[1]
local tried = {
  { 'TIME' },
  { 'EXISTS', key }, { 'GET', key }, { 'SET', key, '1', 'PX', '1000' }, { 'DEL', key }, { 'INCR', key },
  { 'PEXPIRE', key, '1000' }, { 'PEXPIREAT', key, '1' }, { 'PTTL', key },
  { 'HGET', key, 'f' }, { 'HMGET', key, 'f' }, { 'HSET', key, 'f', '1' }, { 'HDEL', key, 'f' }, { 'HINCRBY', key, 'f', '1' },
  { 'XADD', key, '1-0', 'f', '1' }, { 'XRANGE', key, '-', '+' }, { 'XREVRANGE', key, '+', '-' }, { 'XTRIM', key, 'MAXLEN', '0' },
  { 'ZADD', key, '1', 'm' }, { 'ZCARD', key }, { 'ZLEXCOUNT', key, '-', '+' }, { 'ZRANGE', key, '0', '0' }, { 'ZRANGEBYSCORE', key, '0', '1' },
  { 'ZREVRANGEBYLEX', key, '+', '-' }, { 'ZRANK', key, 'm' }, { 'ZREM', key, 'm' }, { 'ZREMRANGEBYSCORE', key, '0', '1' }, { 'ZSCORE', key, 'm' },
  { ARGV[1], ARGV[2], '' },
}
if ARGV[1] == 'SPUBLISH' then
  -- In a Cluster messages carry the term of their master.
  tried[#tried + 1] = { 'INFO', 'replication' }
  tried[#tried + 1] = { 'CLUSTER', 'INFO' }
end

local function is_denial(text)
  return string.find(text, 'NOPERM', 1, true) or string.find(text, 'The user executing the script can', 1, true)
end

local denied = {}
for _, command in ipairs(tried) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err and is_denial(answer.err) then
    denied[#denied + 1] = command[1]
    denied[#denied + 1] = answer.err
  end
end
redis.pcall('DEL', unpack(KEYS))
return denied
