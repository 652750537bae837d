-- Nothing more of a campaign is sent, ever. What is still queued is counted out afterwards, chunk by chunk: count_out.lua.
-- KEYS: container, window, active
-- ARGV: id, reason
-- Returns {its state afterwards, 1 where this changed it, 1 where its list has been read to the end}; a planned one whose list
-- has not been is left to abandon.lua.
-- include mailer/ledger/lua/lib/common.lua
local c = redis.call('HMGET', container, 'state', 'ready', 'n:q', 'n:c')
local ready = c[2] and 1 or 0
if not c[1] or c[1] == 'finished' or c[1] == 'cancelled' or not c[2] then
  return {c[1] or 'gone', 0, ready}
end
redis.call('HSET', container, 'state', 'cancelled', 'reason', ARGV[2], 'sweep', '0')
if tonumber(c[3] or '0') + tonumber(c[4] or '0') == 0 then
  redis.call('HSET', container, 'finished', digits(now_ms()))
end
make_active(container, window, active, ARGV[1])
return {'cancelled', 1, 1}
