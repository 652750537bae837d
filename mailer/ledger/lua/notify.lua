-- Queue a notification of SNS and note its id, or find that it is queued or applied already.
-- KEYS: note, inbox
-- ARGV: a nonce of this call, seconds for which the id is remembered, field, value; field and value may be left out: note it only
-- Returns 1 where it is queued by this call, also where the call is repeated because its answer was lost; 0: it was there before.
local nonce, life = unpack(ARGV, 1, 2)
local known = redis.call('GET', note)
if known then return known == nonce and 1 or 0 end
if #ARGV > 2 then redis.call('XADD', inbox, '*', unpack(ARGV, 3)) end
redis.call('SET', note, nonce, 'EX', life)
return 1
