-- Extends the leases of connections, but of no lost one, and evicts expired members.
--
-- KEYS, ARGV: those of presence.lua; ARGV further: 8 lease (milliseconds), 9 how many expired ones are evicted at most,
--       10 and on: connections.
-- Returns: milliseconds until the next member expires (0: some are left to be evicted, -1: no member, -2: an eviction was
--       deferred), then the indices of the connections that are not known here.
-- Why atomic: a lease that no call has seen expire yet is extended, one that was seen is not; never half of either.

insist()
local held = redis.call('HMGET', CONNECTIONS, unpack(ARGV, 10, #ARGV - 3))
local answer, extended = { 0 }, {}
for index, known in ipairs(held) do
  if not known then
    answer[#answer + 1] = index - 1
  elseif string.sub(known, 1, 1) == 'h' then
    extended[#extended + 1] = now + ARGV[8]
    extended[#extended + 1] = ARGV[9 + index]
  end
end
-- GT: a lease is never shortened, so that one handed over stays as long as that took.
if #extended > 0 then
  redis.call('ZADD', EXPIRIES, 'GT', unpack(extended))
end
evict_expired(ARGV[9])
answer[1] = due()
finish()
return answer
