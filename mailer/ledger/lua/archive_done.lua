-- Nothing of an archived chunk is left to be cleared away. KEYS: records, over   ARGV: chunk id
-- Returns 1; 0 where it is in Redis again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
