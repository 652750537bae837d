-- Heartbeat of a lease. KEYS: chunk, due   ARGV: chunk id, fence, lease (ms)   Returns 1, or 0 when the lease is lost.
local chunk, due = unpack(KEYS)
local now = now_ms()
local meta = redis.call('HMGET', chunk, 'fence', 'until')
if meta[1] ~= ARGV[2] or tonumber(meta[2] or '0') <= now then
  return 0
end
redis.call('HSET', chunk, 'until', digits(now + ARGV[3]))
redis.call('ZADD', due, digits(now + ARGV[3]), ARGV[1])
return 1
