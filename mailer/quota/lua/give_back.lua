-- Recipients that had their place were not handed to SES after all.
-- KEYS: account, limiter, places
-- ARGV: place, lower rate or ''
-- include mailer/quota/lua/lib/places.lua
local rate = send_rate(redis.call('HGET', account, 'max_send_rate') or '0', ARGV[2])
local n = leave_place(limiter, places, ARGV[1], rate, now_us())
if n > 0 then redis.call('HINCRBY', account, 'admitted', digits(-n)) end
return 1
