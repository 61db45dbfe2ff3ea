-- Reads part of what a channel keeps, and where it stands.
--
-- KEYS: 1 position, 2 stream.
-- ARGV: 1 'after' or 'last', 2 offset, 3 limit, 4 ttl of messages, 5 an epoch, should it be needed, 6 position ttl
--       (milliseconds), 7 the most bytes of bodies, 8 position ttl of a channel without a message (milliseconds), 9 whether the
--       epoch of a channel never heard of may be written (1 or 0).
-- Returns: epoch, offset, tag, entries (oldest first, as XRANGE gives them), the time (milliseconds), whether the epoch was
--          written now (1 or 0).
-- Why atomic: the position and the messages are of one moment; a channel never heard of gets its epoch here, so that the
--             answer holds for its first message. Nodes with subscribers read again within the short ttl, and nothing else
--             needs the epoch of a channel without messages: reads alone must not fill Redis. It writes, because only a
--             master may answer.

local position, stream = KEYS[1], KEYS[2]
local limit, bytes_max = tonumber(ARGV[3]), tonumber(ARGV[7])
-- 16: as many bodies as a reply of the usual size needs, and not more memory than it has.
local CHUNK = 16
local now = milliseconds()

-- The epoch of a channel that nothing is written of: every node finds the same for as long as a position is remembered. It is
-- never written, so that no message has it; `is_unwritten` in history.rs knows it by its beginning.
local function unwritten()
  local hash = redis.sha1hex(position .. ' ' .. math.floor(now / ARGV[6]))
  return 'ffff' .. string.sub(hash, 1, 12), 0, '0'
end

local refused, has_begun
local function start()
  if ARGV[9] ~= '1' and redis.call('EXISTS', position) == 0 then
    return unwritten()
  end
  -- Redis asks for memory at a script's first write, and no deletion may come before this one.
  local written = redis.pcall('HSET', position, 'e', ARGV[5], 's', '0', 't', '0')
  if type(written) == 'table' and written.err then
    refused = not string.find(written.err, 'OOM', 1, true) and written
    return unwritten()
  end
  redis.call('DEL', stream)
  has_begun = true
  return ARGV[5], 0, '0'
end

local epoch, offset, tag = stands(position)
if not epoch then
  epoch, offset, tag = start()
end
if refused then
  return refused
end
local function touch()
  return redis.pcall('PEXPIRE', position, offset > 0 and ARGV[6] or ARGV[8])
end
local touched = touch()
if type(touched) == 'table' and touched.err and string.find(touched.err, 'READONLY', 1, true) then
  return touched
end

-- Entries beyond the position are of another history: the position was restored from an older copy. Else there are none, so
-- that this reads no body.
local standing = string.format('%.0f', offset)
local beyond = redis.call('XRANGE', stream, '(' .. standing .. '-0', '+', 'COUNT', 1)
if #beyond > 0 then
  epoch, offset, tag = start()
  if refused then
    return refused
  end
  standing = '0'
  touch()
end
if limit == 0 then
  return { epoch, standing, tag, {}, now, has_begun and 1 or 0 }
end

-- The newest entry stands at the position, or the entries are not of this history.
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if newest and (newest[1] ~= standing .. '-0' or newest[2][4] ~= tag) then
  redis.call('DEL', stream)
end

-- Entries older than the ttl go.
local dead_before = now - ARGV[4]
local from, count = '-', 1
while true do
  local oldest, alive = redis.call('XRANGE', stream, from, '+', 'COUNT', count), nil
  for _, entry in ipairs(oldest) do
    from = '(' .. entry[1]
    if tonumber(entry[2][8]) > dead_before then
      alive = entry[1]
      break
    end
  end
  if alive then
    if count > 1 then
      redis.call('XTRIM', stream, 'MINID', alive)
    end
    break
  elseif #oldest < count then
    if count > 1 then
      redis.call('DEL', stream)
    end
    break
  end
  count = CHUNK
end

local entries, bytes = {}, 0
local command, next, last = 'XRANGE', '(' .. ARGV[2] .. '-0', '+'
if ARGV[1] == 'last' then
  command, next, last = 'XREVRANGE', '+', '-'
end
while #entries < limit do
  local chunk = redis.call(command, stream, next, last, 'COUNT', math.min(CHUNK, limit - #entries))
  for _, entry in ipairs(chunk) do
    bytes = bytes + #entry[2][2]
    if bytes > bytes_max and #entries > 0 then
      limit = 0
      break
    end
    entries[#entries + 1] = entry
    next = '(' .. entry[1]
  end
  if #chunk < CHUNK then
    break
  end
end
if ARGV[1] == 'last' then
  local reversed = {}
  for index = #entries, 1, -1 do
    reversed[#reversed + 1] = entries[index]
  end
  entries = reversed
end
return { epoch, standing, tag, entries, now, has_begun and 1 or 0 }
