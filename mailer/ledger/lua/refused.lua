-- SES refused a SendBulkEmail call because there were too many of them: its recipients were not counted, so their place in the
-- rate is given back, and there are to be fewer calls.
-- KEYS: account, rate, calls   ARGV: n, lower rate or '', bulk calls/s as in admit.lua
local account, rate_key, calls_key = unpack(KEYS)
local n, now = tonumber(ARGV[1]), now_us()
local rate = send_rate(redis.call('HGET', account, 'max_send_rate') or '0', ARGV[2])
local at = tonumber(redis.call('GET', rate_key) or '0')
if rate > 0 and at > now then
  redis.call('SET', rate_key, digits(math.max(now, at - n / rate * 1000000)), 'PX', math.ceil((at - now) / 1000) + 1000)
end

local c = redis.call('HMGET', calls_key, 'rate', 'halved', 'good', 'ceiling', 'patience')
local calls = tonumber(ARGV[3]) or tonumber(c[1] or '1')
if ARGV[3] == 'auto' and now - tonumber(c[2] or '0') >= 1000000 then  -- calls that were under way together are one mistake
  local good, patience = tonumber(c[3] or '0'), math.min(tonumber(c[5] or '15') * 2, 600)
  redis.call('HSET', calls_key, 'ceiling', calls, 'good', good < calls and good or calls / 2, 'halved', digits(now),
             'patience', patience, 'probe', digits(now + patience * 1000000), 'since', digits(now), 'wanted', '0')
  calls = math.max(calls / 2, 0.1)
  redis.call('HSET', calls_key, 'rate', calls)
end
if ARGV[3] == 'unlimited' then calls = 1 end  -- it does not hold; but without a pause every call would be refused
redis.call('HSET', calls_key, 'next', digits(now + 1020000 / calls))
return 1
