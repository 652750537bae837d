-- Chunks that have been over for a while and are to be archived.
-- KEYS: over
-- ARGV: limit, for how long they have been over (ms), patience (ms)
-- Returns {chunk id, ...}; each is handed to one caller only until the patience is over.
-- include mailer/redis/lua/lib/numbers.lua
local now = now_ms()
local found = redis.call('ZRANGEBYSCORE', over, '-inf', digits(now - ARGV[2]), 'LIMIT', '0', ARGV[1])
for _, chunk_id in ipairs(found) do
  redis.call('ZADD', over, digits(now - ARGV[2] + ARGV[3]), chunk_id)
end
return found
