-- Store one message: all of it, or, where its idempotency key stands for an earlier one, nothing.
-- KEYS: key, container, chunk, records, payload, window, due
-- ARGV: id, chunk id, digest of what the caller gave or '' (no key), life of the key (s), patience (ms), payload,
--       time to send at (ms) or '', then pairs field, value of the container
-- Returns {id, 1 where it is new}: the earlier one's id, and 0 or (other content) -1, where there is one.
-- include mailer/ledger/lua/lib/common.lua
local id, chunk_id, digest, life, patience, packed, at = unpack(ARGV, 1, 7)
local now = now_ms()
if redis.call('EXISTS', container) == 1 then
  return {id, 1}  -- the answer to the first time got lost
end
if digest ~= '' then
  local earlier = redis.call('HMGET', key, 'id', 'digest')
  if earlier[1] then
    return {earlier[1], earlier[2] == digest and 0 or -1}
  end
  redis.call('HSET', key, 'id', id, 'digest', digest)
  redis.call('EXPIRE', key, life)
end
redis.call('HSET', container, 'id', id, 'state', 'planned', 'ready', '1', 'rows', '1', 'chunks', '1', 'next', '1', 'n:q', '1',
           'created', digits(now), unpack(ARGV, 8))
redis.call('HSET', chunk, 'fence', '0', 'until', '0', 'open', '1', 'size', '1')
redis.call('SET', records, record('q', '-', 0, 0, now))
redis.call('SET', payload, packed)
redis.call('SADD', window, '0')
local later = at ~= '' and tonumber(at) > now
if later then redis.call('HSET', container, 'at', at) end
redis.call('ZADD', due, later and at or digits(now + patience), chunk_id)
begin_when_due(container, now)
return {id, 1}
