-- Publishes one message on a channel with positions.
--
-- KEYS: 1 position, 2 stream, 3 (optional) what became of the publication with this idempotency key.
-- ARGV: 1 PUBLISH or SPUBLISH, 2 channel, 3 a new epoch, 4 the message's id, 5 body, 6 size, 7 ttl, 8 position ttl, 9 key ttl (all in
--       milliseconds), 10 '' or, on a repetition, '1', 11 '1' when the caller waits for replicas or the disk, else ''.
-- Returns: epoch, offset, tag, 1 when an earlier publication with this key stood already (else 0).
--          'UNTOLD' when it cannot be told whether the first attempt succeeded, and to an attempt that is too late.
-- WAIT and WAITAOF wait for the last write of the connection that asks. So an answer about what stood already writes
-- too: PEXPIRE on a key that was just found always reaches replicas and log (as PEXPIREAT), and needs no memory.
-- Why atomic: of any number of repetitions one is published, and its position is the one that its subscribers see.

-- So many messages are looked at in one step.
local CHUNK = 64

-- The last 64 repetitions: so many bytes of ids, each with a space on both sides.
local REPEATED_BYTES = 1089

local position, stream, key = KEYS[1], KEYS[2], KEYS[3]
local size = tonumber(ARGV[6])

if key then
  local stored = redis.call('GET', key)
  if stored then
    if ARGV[11] == '1' then
      local left = redis.call('PTTL', key)
      redis.call('PEXPIRE', key, left > 0 and left or ARGV[9])
    end
    local epoch, offset, tag = string.match(stored, '^(%x+) (%d+) (%x+)$')
    return { epoch or '', offset or '', tag or '', 1 }
  end
end

-- Without a key the message is recognised by its id, among all that is kept. How old a message is says nothing: nobody knows
-- how long either attempt was on its way. What is kept is bounded, and repetitions are rare.
if ARGV[10] ~= '' and not key then
  local last, seen = '+', 0
  while true do
    local entries = redis.call('XREVRANGE', stream, last, '-', 'COUNT', CHUNK)
    for _, entry in ipairs(entries) do
      if entry[2][10] == ARGV[4] then
        if ARGV[11] == '1' then
          redis.call('PEXPIRE', stream, ARGV[7])
        end
        local epoch = stands(position)
        return { epoch or '', string.match(entry[1], '^%d+'), entry[2][4], 0 }
      end
      seen = seen + 1
      last = '(' .. entry[1]
    end
    if #entries < CHUNK then
      break
    end
  end
  -- It may have been among them and was pushed out.
  if seen >= size then
    return 'UNTOLD'
  end
end

-- Redis may read an attempt after the repetition that was to replace it. The repetition has left its id behind.
local repeated = not key and redis.call('HGET', position, 'r') or ' '
if string.find(repeated, ' ' .. ARGV[4] .. ' ', 1, true) then
  return 'UNTOLD'
end

local epoch, offset, tag = append({
  position = position, stream = stream, channel = ARGV[2], command = ARGV[1], epoch = ARGV[3],
  size = size, ttl = ARGV[7], position_ttl = ARGV[8], now = milliseconds(),
}, ARGV[5], ARGV[4])
if not epoch then
  return offset
end
if key then
  redis.call('SET', key, epoch .. ' ' .. offset .. ' ' .. tag, 'PX', ARGV[9])
elseif ARGV[10] ~= '' then
  redis.call('HSET', position, 'r', string.sub(repeated .. ARGV[4] .. ' ', -REPEATED_BYTES))
end
return { epoch, offset, tag, 0 }
