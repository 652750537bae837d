-- Let nothing more of a campaign be claimed, until it is resumed.
-- KEYS: container
-- ARGV: reason
-- Returns {its state afterwards, 1 where this changed it, 1 where its list has been read to the end}.
-- include mailer/ledger/lua/lib/common.lua
local c = redis.call('HMGET', container, 'state', 'ready')
local ready = c[2] and 1 or 0
if c[1] == 'running' or c[1] == 'parked' or (c[1] == 'planned' and c[2]) then
  redis.call('HSET', container, 'state', 'paused', 'reason', ARGV[1])
  stand_still(container, now_ms())
  return {'paused', 1, ready}
end
return {c[1] or 'gone', 0, ready}
