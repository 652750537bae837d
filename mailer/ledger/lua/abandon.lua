-- Give up a campaign whose list was not read to its end; one that was started stays as it is.
-- KEYS: container
-- ARGV: reason, silence (ms): only where its reader has not been heard of for so long
-- Returns how many chunks have to be deleted, or -1 where the campaign is not given up.
-- include mailer/redis/lua/lib/numbers.lua
local c = redis.call('HMGET', container, 'state', 'ready', 'chunks', 'intake', 'once', 'id')
if c[1] ~= 'planned' or c[2] or now_ms() - tonumber(c[4]) < tonumber(ARGV[2]) then
  return -1
end
-- Taking away first is what lets a script write where the memory is full, and this is what makes room again.
redis.call('HDEL', container, 'intake')
redis.call('HSET', container, 'state', 'cancelled', 'reason', ARGV[1])
-- Nothing came of it: its idempotency key may be used for another try.
if c[5] and redis.call('HGET', c[5], 'id') == c[6] then
  redis.call('DEL', c[5])
end
return tonumber(c[3])
