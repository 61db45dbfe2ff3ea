-- Clears a channel's history; the channel stands at the start of a new epoch.
--
-- KEYS: 1 position, 2 stream.
-- ARGV: 1 the new epoch, 2 position ttl (milliseconds).
-- Returns: 1.
-- Why atomic: no reader sees messages of the old epoch beside a position of the new one.

redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'e', ARGV[1], 's', '0', 't', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
