-- Appends messages to a channel: each gets the next position, is kept, and is fanned out.
--
-- KEYS, ARGV: those of the script that this text stands before. It is no script by itself.
-- Returns: append() returns the epoch, the offset and the tag; or nil and an error reply, and nothing was written.
-- Why atomic: a reader of the history finds every message there that was delivered, and no two messages share an offset.
--
-- Scripts are not rolled back. So everything is read first, the first write is the one that may be refused (by a replica, or
-- for want of memory), and nothing after it can fail.

-- Offsets end where doubles stop counting exactly; the next message starts a new epoch.
local OFFSET_MAX = 9007199254740991

local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Where the channel stands: epoch, offset (a number), tag. Nothing when that was never written, or was evicted.
local function stands(position)
  local stored = redis.call('HMGET', position, 'e', 's', 't')
  if stored[1] and stored[2] and stored[3] then
    return stored[1], tonumber(stored[2]), stored[3]
  end
end

-- The tag of the message with this id that comes after a tag: the rule of tag.rs. It names all messages up to this one, so that
-- a master that was replaced and the new one never give the same position to different histories, whatever was repeated on
-- the new one.
local function tag_after(previous, id)
  local digits = string.gsub(string.sub(redis.sha1hex(previous .. ' ' .. id), 1, 16), '^0+', '')
  return digits ~= '' and digits or '1'
end

-- `to` says where and how: position, stream (keys), channel, command (PUBLISH or SPUBLISH), epoch (a new one, should it be
-- needed), size, ttl, position_ttl (milliseconds), now (milliseconds).
local function append(to, body, id)
  local epoch, offset, previous = stands(to.position)
  local is_new = not epoch or offset >= OFFSET_MAX
  if is_new then
    epoch, offset, previous = to.epoch, 0, '0'
  end
  offset = string.format('%.0f', offset + 1)
  local tag = tag_after(previous, id)
  if not is_new and to.size > 0 then
    local added = redis.pcall('XADD', to.stream, 'MAXLEN', to.size, offset .. '-0',
      'b', body, 'g', tag, 'p', previous, 'a', to.now, 'i', id)
    if added.err then
      -- The stream is ahead: the position was restored from an older copy, and its offsets were taken by other messages.
      if not string.find(added.err, 'equal or smaller', 1, true) then
        return nil, added
      end
      is_new = true
      epoch, offset, previous = to.epoch, '1', '0'
      tag = tag_after(previous, id)
    end
  end
  -- Redis asks for memory at a script's first write, and no deletion may come before this one.
  redis.call('HSET', to.position, 'e', epoch, 's', offset, 't', tag)
  redis.call('PEXPIRE', to.position, to.position_ttl)
  if is_new or to.size == 0 then
    redis.call('DEL', to.stream)
  end
  if to.size > 0 then
    if is_new then
      redis.call('XADD', to.stream, '1-0', 'b', body, 'g', tag, 'p', previous, 'a', to.now, 'i', id)
    end
    redis.call('PEXPIRE', to.stream, to.ttl)
  end
  redis.call(to.command, to.channel, '1 ' .. epoch .. ' ' .. offset .. ' ' .. previous .. ' ' .. tag .. ' ' .. body)
  return epoch, offset, tag
end

