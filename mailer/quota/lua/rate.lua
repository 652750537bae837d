-- Recipients per second that are used at present: the account's rate, a lower one that was set, less what SES's refusals taught.
-- KEYS: account, limiter
-- ARGV: lower rate or ''   Returns it as text.
-- include mailer/quota/lua/lib/places.lua
local l = redis.call('HMGET', limiter, 'lowered', 'lowered_at')
return fraction(rate_now(send_rate(redis.call('HGET', account, 'max_send_rate') or '0', ARGV[1]), l[1], l[2], now_us()))
