-- An address was removed from SES's list. It is remembered for a while: a page that was read before may still be on its way.
-- KEYS: ses, removed
-- ARGV: place, address, how long it is remembered (ms)
-- Returns how many entries it had.
-- include mailer/suppression/lua/lib/buckets.lua
local key, address = ses .. bucket(ARGV[1]), ARGV[2]
local _, gone = (redis.call('HGET', key, address) or ''):gsub('%S+', '')
redis.call('HDEL', key, address)
redis.call('HINCRBY', ses, 'entries', digits(-gone))
redis.call('HSET', removed, address, digits(now_ms()))
redis.call('PEXPIRE', removed, ARGV[3])
return gone
