-- All that is known of a chunk's recipients, where it is to be archived.
-- KEYS: container, chunk, records, ids, details, tokens, over
-- ARGV: chunk id, its number, for how long nothing has changed in it (ms), the same where a recipient is in doubt (ms)
-- Returns {'over', digest, records, message ids, {details}} | {'early'}: it has changed lately, or a worker has it | {'open'}
-- | {'archived'}: it is, and what it leaves in the store may still be there | {'gone'}.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, number, quiet, doubt_quiet = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_ms()
local all = redis.call('GET', records)
if not all then
  return {token_of(tokens, number) ~= '' and 'archived' or 'gone'}
end
local meta = redis.call('HMGET', chunk, 'open', 'until', 'doubt')
if tonumber(meta[1] or '0') > 0 then
  redis.call('ZREM', over, chunk_id)  -- when it is over it is listed again
  return {'open'}
end
local latest = tonumber(meta[2] or '0')  -- of a lease that goes on: its end
for at = 1, #all, RECORD do
  latest = math.max(latest, struct.unpack('>I4', all, at + RECORD - 4) * 1000)
end
local doubtful = tonumber(meta[3] or '0') > 0
local need = doubtful and doubt_quiet or quiet
if doubtful and not is_over(container) then  -- somebody looks after those in doubt
  redis.call('ZADD', over, digits(now), chunk_id)
  return {'early'}
end
if now - latest < need then
  redis.call('ZADD', over, digits(latest + need - quiet), chunk_id)
  return {'early'}
end
local digest, known, said = chunk_digest(records, ids, details)
return {'over', digest, all, known, said}
