-- What a worker is about to do with a chunk that an earlier one was lost with; or that it has done it. Where this worker is lost,
-- too, lease.lua finds the mark.
-- KEYS: chunk
-- ARGV: chunk id, fence, the first and the last position as `0-49`, `all` while it is being loaded, '' when it is
-- done; 1 where the recipients that are suspected have turned out to be innocent
-- Returns 1, or 0 when the lease is lost.
-- include mailer/ledger/lua/lib/common.lua
local fence, mark, innocent = ARGV[2], ARGV[3], ARGV[4]
if not held_until(chunk, fence) then
  return 0
end
if mark ~= '' then
  redis.call('HSET', chunk, 'mark', mark)
else
  redis.call('HDEL', chunk, 'mark')
  if innocent == '1' then redis.call('HDEL', chunk, 'suspects', 'deaths') end
end
return 1
