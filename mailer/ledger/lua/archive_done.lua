-- Nothing of an archived chunk is left to be cleared away.
-- KEYS: records, over
-- ARGV: chunk id
-- Returns 1; 0 where it is in Redis again: whoever took it back found it listed, for a time that was this caller's.
-- include mailer/redis/lua/lib/numbers.lua
if redis.call('EXISTS', records) == 1 then
  redis.call('ZADD', over, 'XX', digits(now_ms()), ARGV[1])
  return 0
end
redis.call('ZREM', over, ARGV[1])
return 1
