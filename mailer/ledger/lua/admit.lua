-- May n recipients be handed to SES, and when? One limiter for the whole account (GCRA, on Redis's clock).
-- A place is given at most `horizon` ahead of time, so that what asks later and is more urgent does not wait behind it.
-- A SendBulkEmail call needs a place among those calls, too. Where there is none at the very time that the rate has room,
-- nothing is taken and the answer is 'singles': SendEmail calls use the room meanwhile.
-- KEYS: account, rate, calls
-- ARGV: n, horizon (ms), lower rate or '', oldest account state that is believed (ms), bulk calls/s: number | 'auto' |
--       'unlimited', or '' where it is not a bulk call
-- Returns {status, ms}: 'go' after ms | 'wait' ms, then ask again | 'singles' |
-- 'stale' | 'paused' | 'suspended' | 'daily', where how long is not this limiter's to say
local account, rate_key, calls_key = unpack(KEYS)
local n, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local now = now_us()

local a = redis.call('HMGET', account, 'max_send_rate', 'max_24h', 'sent_24h', 'admitted', 'refreshed_at', 'sending_enabled',
                     'enforcement', 'base')
if not a[1] or now / 1000 - tonumber(a[5]) > tonumber(ARGV[4]) then
  return {'stale', 0}
end
if a[7] == 'SHUTDOWN' then return {'suspended', 0} end
if a[6] ~= '1' then return {'paused', 0} end
local max_24h = tonumber(a[2])
if max_24h >= 0 and tonumber(a[3]) + tonumber(a[4] or '0') - tonumber(a[8] or '0') + n > max_24h then
  return {'daily', 0}
end

local rate = send_rate(a[1], ARGV[3])
if rate <= 0 then return {'paused', 0} end
local at = math.max(tonumber(redis.call('GET', rate_key) or '0'), now)
if at - now > horizon then
  return {'wait', math.ceil((at - now - horizon) / 1000)}
end

-- How many bulk calls a second? `auto` begins at 1 and doubles after every second in which all were used and none was refused;
-- near a limit at which SES refused (refused.lua) it goes back to what held, and tries the middle once in a while.
local function learnt(c)
  local calls, since = tonumber(c.rate or '1'), tonumber(c.since or '0')
  if since == 0 then
    redis.call('HSET', calls_key, 'rate', calls, 'since', digits(now))
  elseif now - since >= 1000000 then
    if c.wanted == '1' then
      local good, ceiling = math.max(tonumber(c.good or '0'), calls), tonumber(c.ceiling or '0')
      local next_calls = calls * 2
      if ceiling > 0 and next_calls >= ceiling then
        if calls < good then
          next_calls = good
        elseif now < tonumber(c.probe or '0') then
          next_calls = calls
        elseif ceiling - calls > calls * 0.1 then
          next_calls = (calls + ceiling) / 2
        else
          redis.call('HDEL', calls_key, 'ceiling')
          next_calls = calls * 1.1
        end
      end
      redis.call('HSET', calls_key, 'good', good)
      calls = next_calls
    end
    redis.call('HSET', calls_key, 'rate', calls, 'since', digits(now), 'wanted', '0')
  end
  return calls
end

if ARGV[5] == 'unlimited' then
  -- SES has refused one all the same (refused.lua).
  if tonumber(redis.call('HGET', calls_key, 'next') or '0') > at then return {'singles', 0} end
elseif ARGV[5] ~= '' then
  local found = redis.call('HMGET', calls_key, 'next', 'rate', 'since', 'wanted', 'good', 'ceiling', 'probe')
  local c = {rate = found[2], since = found[3], wanted = found[4], good = found[5], ceiling = found[6], probe = found[7]}
  local calls = tonumber(ARGV[5]) or learnt(c)
  local next_call = tonumber(found[1] or '0')
  if next_call > at then
    redis.call('HSET', calls_key, 'wanted', '1')
    return {'singles', 0}
  end
  -- A little slower than the limit, for what the network does to the distance of two calls. Above ten a second a place that
  -- was missed by a moment is not lost.
  local slack = calls >= 10 and 100000 or 0
  redis.call('HSET', calls_key, 'next', digits(math.max(next_call, at - slack) + 1020000 / calls))
end

local cost = n / rate * 1000000
redis.call('SET', rate_key, digits(at + cost), 'PX', math.ceil((at + cost - now) / 1000) + 1000)
redis.call('HINCRBY', account, 'admitted', n)
return {'go', math.floor((at - now) / 1000)}
