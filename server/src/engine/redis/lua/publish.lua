-- Publishes one message on a channel with positions.
--
-- KEYS: 1 position, 2 stream, 3 (optional) what became of the publication with this idempotency key.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel, 3 a new epoch, 4 tag, 5 body, 6 size, 7 ttl, 8 position ttl, 9 key ttl (all in
--       milliseconds), 10 '' or, on a repetition, how long ago the first attempt may have been made.
-- Returns: epoch, offset, tag, 1 when an earlier publication with this key stood already (else 0).
--          'UNTOLD' when it cannot be told whether the first attempt succeeded.
-- Why atomic: of any number of repetitions one is published, and its position is the one that its subscribers see.

local position, stream, key = KEYS[1], KEYS[2], KEYS[3]
local size = tonumber(ARGV[6])

if key then
  local stored = redis.call('GET', key)
  if stored then
    local epoch, offset, tag = string.match(stored, '^(%x+) (%d+) (%x+)$')
    return { epoch or '', offset or '', tag or '', 1 }
  end
end

local now = milliseconds()

-- Without a key the message is recognised by its tag, among those that came since the first attempt.
if ARGV[10] ~= '' and not key then
  local since, last, seen = now - ARGV[10], '+', 0
  local is_covered = false
  while not is_covered do
    local entries = redis.call('XREVRANGE', stream, last, '-', 'COUNT', 8)
    for _, entry in ipairs(entries) do
      if entry[2][4] == ARGV[4] then
        local epoch = stands(position)
        return { epoch or '', string.match(entry[1], '^%d+'), ARGV[4], 0 }
      end
      seen = seen + 1
      is_covered = is_covered or tonumber(entry[2][8]) < since
      last = '(' .. entry[1]
    end
    if #entries < 8 then
      break
    end
  end
  if not is_covered and seen >= size then
    return 'UNTOLD'
  end
end

local epoch, offset = append({
  position = position, stream = stream, channel = ARGV[2], command = ARGV[1], epoch = ARGV[3],
  size = size, ttl = ARGV[7], position_ttl = ARGV[8], now = now,
}, ARGV[5], ARGV[4])
if not epoch then
  return offset
end
if key then
  redis.call('SET', key, epoch .. ' ' .. offset .. ' ' .. ARGV[4], 'PX', ARGV[9])
end
return { epoch, offset, ARGV[4], 0 }
