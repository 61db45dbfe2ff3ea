-- Takes out whose time is up.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 7 how many at most.
-- Returns: milliseconds until the next one's time is up (0: some are left to be reaped, -1: nobody is here, -2: somebody was
--       spared).
-- Why atomic: the last of a user's connections is announced, and no other.

reap(ARGV[7])
local wait = due()
finish()
return wait
