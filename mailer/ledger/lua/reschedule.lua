-- A campaign that has not begun gets another time to be sent at. A paused one stays paused, and waits for that time once resumed.
-- KEYS: container
-- ARGV: time (ms), the same as text
-- Returns {its state afterwards, 1 where it has that time now, 1 where its list has been read to the end}. Instead of the state:
-- 'begun' where a part of a paused one was queued before, 'expired' where its expires_at comes first. May be repeated.
local c = redis.call('HMGET', container, 'state', 'ready', 'expires', 'next')
local ready = c[2] and 1 or 0
if not c[2] or (c[1] ~= 'planned' and c[1] ~= 'paused') then return {c[1] or 'gone', 0, ready} end
if c[4] ~= '0' then return {'begun', 0, ready} end
if c[3] and tonumber(c[3]) <= tonumber(ARGV[1]) then return {'expired', 0, ready} end
redis.call('HSET', container, 'at', ARGV[1], 'at_text', ARGV[2])
if c[1] == 'planned' then redis.call('HSET', container, 'reason', 'to be sent at ' .. ARGV[2]) end
return {c[1], 1, ready}
