-- SES refused a send for what it said of the account, not of the message: every worker has to know at once.
-- KEYS: account, limiter, places, calls_key
-- ARGV: what, its place in the rate or '', lower rate or '', bulk calls/s as in admit.lua
-- what: 'rate' (too many recipients a second) | 'calls' (too many SendBulkEmail calls) | 'daily' | 'paused' | 'suspended'; the
-- last three hold until the account's state is read again.
-- include mailer/quota/lua/lib/places.lua
local what, place, lower, bulk_calls = unpack(ARGV)
local now = now_us()
local rate = send_rate(redis.call('HGET', account, 'max_send_rate') or '0', lower)

if what == 'daily' then
  redis.call('HSET', account, 'daily_refused', digits(now / 1000 + 1))
elseif what == 'paused' then
  redis.call('HSET', account, 'sending_enabled', '0')
elseif what == 'suspended' then
  redis.call('HSET', account, 'enforcement', 'SHUTDOWN')
elseif what == 'rate' then
  local l = redis.call('HMGET', limiter, 'lowered', 'lowered_at')
  if math.abs(now - tonumber(l[2] or '0')) >= 1000000 then  -- calls that were under way together are one mistake
    redis.call('HSET', limiter, 'lowered', fraction(rate_now(rate, l[1], l[2], now) * 0.8), 'lowered_at', digits(now))
  end
elseif what == 'calls' then
  leave_place(limiter, places, place, rate, now)  -- its recipients were not counted
  local c = redis.call('HMGET', calls_key, 'rate', 'halved', 'good', 'ceiling', 'patience')
  local calls = tonumber(bulk_calls) or tonumber(c[1] or '1')
  if bulk_calls == 'auto' and now - tonumber(c[2] or '0') >= 1000000 then
    local good, patience = tonumber(c[3] or '0'), math.min(tonumber(c[5] or '15') * 2, 600)
    redis.call('HSET', calls_key, 'ceiling', fraction(calls), 'good', fraction(good < calls and good or calls / 2),
               'halved', digits(now), 'patience', digits(patience), 'probe', digits(now + patience * 1000000),
               'since', digits(now), 'wanted', '0')
    calls = math.max(calls / 2, 0.1)
    redis.call('HSET', calls_key, 'rate', fraction(calls))
  end
  if bulk_calls == 'unlimited' then calls = 1 end  -- it does not hold; but without a pause every call would be refused
  redis.call('HSET', calls_key, 'next', digits(now + 1020000 / calls))
end
return 1
