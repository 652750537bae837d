-- The chunks whose time has come: a wake-up that got lost, a lease that ran out, a delay that is over.
-- KEYS: due
-- ARGV: limit, patience (ms), key prefix of chunks
-- Returns {chunk id, fence, ...}; each is handed to one caller only until its patience is over again.
-- include mailer/redis/lua/lib/numbers.lua
local now = now_ms()
local found = redis.call('ZRANGEBYSCORE', due, '-inf', digits(now), 'LIMIT', '0', ARGV[1])
local out = {}
for _, chunk_id in ipairs(found) do
  redis.call('ZADD', due, digits(now + ARGV[2]), chunk_id)
  out[#out + 1] = chunk_id
  out[#out + 1] = redis.call('HGET', ARGV[3] .. chunk_id, 'fence') or '0'
end
return out
