-- Keep the turn at reading SES's list, or give it back, and write down how far it has come.
-- KEYS: ses, turn
-- ARGV: whose turn it is, how long it lasts (ms; 0 gives it back); then pairs field, value
-- Returns 0 where it is not their turn any more; then nothing is written.
if redis.call('GET', turn) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', turn) else redis.call('PEXPIRE', turn, ARGV[2]) end
if #ARGV > 2 then redis.call('HSET', ses, unpack(ARGV, 3)) end
return 1
