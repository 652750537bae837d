-- Keep the turn at reading SES's list, or give it back, and write down how far it has come.
-- KEYS: SES's table, turn   ARGV: whose turn it is, how long it lasts (ms; 0 gives it back); then pairs field, value
-- Returns 0 where it is not their turn any more; then nothing is written.
local ses, turn = KEYS[1], KEYS[2]
if redis.call('GET', turn) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', turn) else redis.call('PEXPIRE', turn, ARGV[2]) end
if #ARGV > 2 then redis.call('HSET', ses, unpack(ARGV, 3)) end
return 1
