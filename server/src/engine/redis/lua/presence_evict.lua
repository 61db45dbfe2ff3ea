-- Evicts expired members.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 how many at most.
-- Returns: milliseconds until the next member expires (0: some are left to be evicted, -1: no member, -2: an eviction was
--       deferred).
-- Why atomic: the channel is told what of it is seen, and nothing else.

evict_expired(ARGV[8])
local wait = due()
finish()
return wait
