-- Take an archived chunk back into Redis, for something is to be said of it; it is archived again later.
-- KEYS: container, chunk, records, ids, details, tokens, over, doubt
-- ARGV: chunk id, its number, token of the archive that this is from, records, message ids, recipients still open, in doubt,
--       then pairs field, value of the details
-- Returns 'live' where Redis has it, by this or before | 'changed': it has been archived anew | 'gone': so has its campaign.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, number, token, all, known, open, doubtful = unpack(ARGV, 1, 7)
if redis.call('EXISTS', records) == 1 then
  return 'live'
end
if redis.call('EXISTS', container) == 0 then
  return 'gone'
end
if token_of(tokens, tonumber(number)) ~= token then
  return 'changed'
end
local now = now_ms()
-- The fence is above every one that was given out before.
redis.call('HSET', chunk, 'fence', digits(now), 'until', '0', 'open', open, 'size', digits(#all / RECORD))
redis.call('SET', records, all)
if known ~= '' then redis.call('SET', ids, known) end
if #ARGV > 7 then redis.call('HSET', details, unpack(ARGV, 8)) end
change_doubt(chunk, doubt, chunk_id, tonumber(doubtful), now)
redis.call('ZADD', over, digits(now), chunk_id)
local left = redis.call('PTTL', container)
if left > 0 then  -- and a day more, so that it is archived before it is forgotten
  for _, key in ipairs({chunk, records, ids, details}) do redis.call('PEXPIRE', key, digits(left + 86400000)) end
end
return 'live'
