-- Store a chunk of a list that is being read. A repetition that comes late (its connection was given up, and what it held was
-- delivered all the same) finds the campaign started, and changes nothing.
-- KEYS: container, chunk, records, details
-- ARGV: records, recipients that are queued, then pairs position, reason
-- Returns 1; 0 where the campaign is not being read any more.
-- include mailer/ledger/lua/lib/common.lua
local c = redis.call('HMGET', container, 'state', 'ready')
if c[1] ~= 'planned' or c[2] then return 0 end
redis.call('HSET', chunk, 'fence', '0', 'until', '0', 'open', ARGV[2], 'size', digits(#ARGV[1] / RECORD))
redis.call('SET', records, ARGV[1])
if #ARGV > 2 then redis.call('HSET', details, unpack(ARGV, 3)) end
return 1
