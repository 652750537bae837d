-- Let a paused or stopped campaign go on: at once, or where its time is still to come, then.
-- KEYS: container, window, due, active
-- ARGV: id, time (ms) after which the reaper looks whether a wake-up got lost, key prefix of chunks
-- Returns {its state afterwards, 1 where this changed it, 1 where its list has been read to the end,
-- then chunk id, fence, ...: what has to be woken}. The keys of its chunks may have been told to expire: see revive.lua.
-- include mailer/ledger/lua/lib/common.lua
local id, patience, prefix = unpack(ARGV)
local now = now_ms()
local c = redis.call('HMGET', container, 'state', 'ready', 'at', 'at_text', 'guarded')
if c[1] ~= 'paused' and c[1] ~= 'stopped' then
  return {c[1] or 'gone', 0, c[2] and 1 or 0}
end
if c[5] then  -- paused by its guard: from now on it judges what is yet to come
  local known, bounced, delivered, complained = judged(container)
  redis.call('HSET', container, 'g:known', digits(known), 'g:bounced', digits(bounced), 'g:delivered', digits(delivered),
             'g:complained', digits(complained))
  redis.call('HDEL', container, 'guarded')
end
go_on(container, now)
local later = c[3] and tonumber(c[3]) > now
redis.call('HSET', container, 'state', 'planned', 'reason', later and ('to be sent at ' .. c[4]) or '')
local out = {begin_when_due(container, now), 1, 1}
make_active(container, window, active, id)
if out[1] == 'running' then
  -- lease.lua took the chunks of the window that had their turn out of `due`; others wait there for a time that is over now.
  for _, number in ipairs(redis.call('SMEMBERS', window)) do
    local chunk_id = id .. '-' .. number
    local meta = redis.call('HMGET', prefix .. chunk_id, 'fence', 'until')
    if tonumber(meta[2] or '0') <= now then  -- else a worker has it, and goes on with it or gives it back
      redis.call('ZADD', due, digits(now + patience), chunk_id)
      out[#out + 1] = chunk_id
      out[#out + 1] = meta[1] or '0'
    end
  end
end
return out
