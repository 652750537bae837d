-- May n recipients be handed to SES, and when? One limiter for the whole account (GCRA, on Redis's clock).
-- A place is given at most `horizon` ahead of time, so that what asks later and is more urgent does not wait behind it.
-- KEYS: account, rate   ARGV: n, horizon (ms), lower rate or '', oldest account state that is believed (ms)
-- Returns {status, ms}: 'go' after ms | 'wait' ms, then ask again |
-- 'stale' | 'paused' | 'suspended' | 'daily', where how long is not this limiter's to say
local account, rate_key = unpack(KEYS)
local n, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]

local a = redis.call('HMGET', account, 'max_send_rate', 'max_24h', 'sent_24h', 'admitted', 'refreshed_at', 'sending_enabled',
                     'enforcement')
if not a[1] or now / 1000 - tonumber(a[5]) > tonumber(ARGV[4]) then
  return {'stale', 0}
end
if a[7] == 'SHUTDOWN' then return {'suspended', 0} end
if a[6] ~= '1' then return {'paused', 0} end
local max_24h = tonumber(a[2])
if max_24h >= 0 and tonumber(a[3]) + tonumber(a[4] or '0') + n > max_24h then
  return {'daily', 0}
end

local rate = tonumber(a[1])
if ARGV[3] ~= '' then rate = math.min(rate, tonumber(ARGV[3])) end
if rate <= 0 then return {'paused', 0} end
local at = math.max(tonumber(redis.call('GET', rate_key) or '0'), now)
if at - now > horizon then
  return {'wait', math.ceil((at - now - horizon) / 1000)}
end
local cost = n / rate * 1000000
redis.call('SET', rate_key, digits(at + cost), 'PX', math.ceil((at + cost - now) / 1000) + 1000)
redis.call('HINCRBY', account, 'admitted', n)
return {'go', math.floor((at - now) / 1000)}
