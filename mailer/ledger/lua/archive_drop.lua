-- The archive of a chunk is in the store: let go of what Redis has of it, where that is still what was archived.
-- KEYS: container, chunk, records, ids, details, payload, tokens, doubt
-- ARGV: chunk id, its number, digest of what was archived, token
-- Returns {1, token of the archive before this or ''}, or {0, ''} where something has been said of it in the meantime.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, number, digest, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
if redis.call('EXISTS', records) == 0 then
  return {0, ''}
end
local meta = redis.call('HMGET', chunk, 'open', 'until')
if tonumber(meta[1] or '0') > 0 or tonumber(meta[2] or '0') > now_ms() or chunk_digest(records, ids, details) ~= digest then
  return {0, ''}
end
local before = token_of(tokens, number)
if redis.call('EXISTS', container) == 1 then
  redis.call('SETRANGE', tokens, digits(number * TOKEN), token)
  if before == '' then redis.call('HINCRBY', container, 'archived', '1') end
  local left = redis.call('PTTL', container)
  if left > 0 and redis.call('PTTL', tokens) < 0 then redis.call('PEXPIRE', tokens, digits(left + 3600000)) end
end
redis.call('DEL', chunk, records, ids, details, payload)
redis.call('ZREM', doubt, chunk_id)
return {1, before}
