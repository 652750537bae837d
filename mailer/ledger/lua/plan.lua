-- Open a campaign for its list, or, where its idempotency key stands for an earlier one, say which.
-- KEYS: key, container, campaigns, active
-- ARGV: id, digest of what the caller gave or '' (no key), life of the key (s), key prefix of containers,
--       then pairs field, value of the container
-- Returns {id, 1 where it is new, else 0 or (other content) -1, whether the earlier one's list is still being read (1),
-- digest of its list}.
-- include mailer/redis/lua/lib/numbers.lua
local id, digest, life, prefix = unpack(ARGV, 1, 4)
local now = digits(now_ms())
if redis.call('EXISTS', container) == 1 then
  return {id, 1, 0, ''}  -- the answer to the first time got lost
end
if digest ~= '' then
  local earlier = redis.call('HMGET', key, 'id', 'digest', 'list')
  if earlier[1] then
    local c = redis.call('HMGET', prefix .. earlier[1], 'state', 'ready')
    local reading = c[1] == 'planned' and not c[2]
    return {earlier[1], earlier[2] == digest and 0 or -1, reading and 1 or 0, earlier[3] or ''}
  end
  redis.call('HSET', key, 'id', id, 'digest', digest)
  redis.call('EXPIRE', key, life)
  redis.call('HSET', container, 'once', key)
end
redis.call('HSET', container, 'id', id, 'state', 'planned', 'reason', 'its list is being read', 'rows', '0', 'chunks', '0',
           'next', '0', 'created', now, 'intake', now, unpack(ARGV, 5))
redis.call('ZADD', campaigns, now, id)
redis.call('ZADD', active, now, id)
return {id, 1, 0, ''}
