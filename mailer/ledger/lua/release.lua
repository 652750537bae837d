-- Give a chunk back.
-- KEYS: chunk, due
-- ARGV: chunk id, fence, delay (ms) until somebody should look at it again, 1 where it turned out to be harmless
-- Returns 1 when there is work left and the caller held the lease, else 0.
-- include mailer/ledger/lua/lib/common.lua
local meta = redis.call('HMGET', chunk, 'fence', 'open')
if meta[1] ~= ARGV[2] then
  was_not_lost(chunk, ARGV[2])
  return 0
end
redis.call('HSET', chunk, 'until', '0')
redis.call('HDEL', chunk, 'mark')
if ARGV[4] == '1' then redis.call('HDEL', chunk, 'starts', 'lost', 'suspects', 'deaths') end
if tonumber(meta[2] or '0') <= 0 then
  return 0
end
redis.call('ZADD', due, digits(now_ms() + ARGV[3]), ARGV[1])
return 1
