-- A list is being read: say that its reader is alive, and how many chunks there are by now.
-- KEYS: container
-- ARGV: chunks
-- Returns the time (ms), or 0 where the campaign is not being read any more: it was given up.
-- include mailer/redis/lua/lib/numbers.lua
local c = redis.call('HMGET', container, 'state', 'ready', 'chunks')
if c[1] ~= 'planned' or c[2] then
  return 0
end
local now = now_ms()
redis.call('HSET', container, 'intake', digits(now), 'chunks',
           digits(math.max(tonumber(c[3] or '0'), tonumber(ARGV[1]))))
return now
