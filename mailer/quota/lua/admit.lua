-- May n recipients be handed to SES, and when? One limiter for the whole account, on Redis's clock.
--
-- A recipient has a place in the rate from when it is admitted until one second after SES has answered (settle.lua), less a
-- little for the way there and back. So whenever SES counts it while it has it, no second of SES's has more than the rate.
-- Places are paced, so that bulk does not use up a second at its beginning. What is transactional is not paced, and while it
-- waits bulk leaves it the room that it needs. Campaigns take turns by what they had (start-time fair queueing).
-- A SendBulkEmail call needs a place among those calls, too. Where there is none at the very time that the rate has room,
-- nothing is taken and the answer is 'singles': SendEmail calls use the room meanwhile.
--
-- KEYS: account, limiter, places, urgent, waiting, share, calls_key, pace
-- ARGV: lane, n, least of them that are worth it, who asks, whose turn it is (campaign), lower rate or '', burst (recipients),
--       oldest account state that is believed (ms), reserve of the 24 h quota, campaign's own rate or '',
--       bulk calls/s: number | 'auto' | 'unlimited', or '' where it is not a bulk call
-- Whoever waits for more than one place keeps its turn by when it first asked, or smaller wishes would take each place that
-- comes free, for ever.
-- Returns {status, us, recipients, place}: 'go' with so many of them, after us | 'wait' us, then ask again | 'singles' |
-- 'stale' | 'paused' | 'suspended' | 'daily', where how long is not this limiter's to say
-- include mailer/quota/lua/lib/places.lua
local bulk, n, least, flow = ARGV[1] == 'bulk', tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local asker = ARGV[4]
local lower, burst, stale_ms, reserve, own_rate, bulk_calls =
  ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
local AHEAD = 20000       -- us: a place that is free so soon is given now, and the claim is made meanwhile
local LONGEST = 200000    -- us: whoever waits asks again after this, for a place may be free sooner than it seemed
local GRACE = 50000       -- us: how late somebody who waits may ask again without losing the turn
local CATCH_UP = 50000    -- us: how much of the pace that was missed may be made up for
local CATCH_UP_OWN = 250000  -- us: and of a campaign's own, which waits for its turn among the others, too
local PACE = 1.1          -- times the rate: what the pace is, so that it costs nothing of what the places allow
local WORTH = 0.02        -- of a second's rate: less room than this is not worth a call, where more is wanted
local SMALL = 0.1         -- of a second's rate: with less than this a bulk call waits for what comes free within MERGE
local MERGE = 100000      -- us
local now = now_us()

-- ---- the account -------------------------------------------------------------------------------

local a = redis.call('HMGET', account, 'max_send_rate', 'max_24h', 'sent_24h', 'admitted', 'refreshed_at', 'sending_enabled',
                     'enforcement', 'base', 'daily_refused', 'doubted')
local age = a[1] and now / 1000 - tonumber(a[5])
if not age or a[10] or age > stale_ms or age < -1000 then  -- of the future: the clock was set back
  return {'stale', 0, 0, ''}
end
if a[7] == 'SHUTDOWN' then return {'suspended', 0, 0, ''} end
if a[6] ~= '1' then return {'paused', 0, 0, ''} end
if a[9] then return {'daily', 0, 0, ''} end
local max_24h = tonumber(a[2])
if max_24h >= 0 then
  local left = max_24h - tonumber(a[3]) - tonumber(a[4] or '0') + tonumber(a[8] or '0') - (bulk and reserve or 0)
  if left < least then return {'daily', 0, 0, ''} end
  n = math.min(n, math.floor(left))
end

local l = redis.call('HMGET', limiter, 'tat', 'held', 'virtual', 'lowered', 'lowered_at', 'seen')
if now < tonumber(l[6] or '0') - 100000 then
  -- The clock was set back, as when another host takes over. What has a place may be counted by SES for another second.
  redis.call('DEL', places)
  if tonumber(l[2] or '0') > 0 then
    redis.call('ZADD', places, digits(now + 1000000), string.format('%.0f|%.0f|1000000|0', l[2], now))
  end
  l[1] = '0'
end
redis.call('HSET', limiter, 'seen', digits(now))
local rate = rate_now(send_rate(a[1], lower), l[4], l[5], now)
if rate <= 0 then return {'paused', 0, 0, ''} end

-- ---- whose turn it is --------------------------------------------------------------------------

redis.call('ZREMRANGEBYSCORE', urgent, '-inf', digits(now))
redis.call('ZREMRANGEBYSCORE', waiting, '-inf', digits(now))

-- Who waits with a turn: all that is transactional, and of bulk what needs several places at once. What came later in the same
-- lane leaves each the least that it can do with, or a code would wait behind whole campaigns; bulk leaves all that is asked for.
-- An entry is `lane|places|least|since (us)|who|campaign`.
local mine, since, ahead_of_us = nil, now, 0
local others = {}
for _, entry in ipairs(redis.call('ZRANGE', urgent, '0', '999')) do
  local lane, all_of_it, at_least, asked, who, whose = entry:match('^(.)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$')
  if who == asker then
    mine, since = entry, math.min(tonumber(asked), now)
  elseif lane == 't' or (bulk and whose == flow) then
    others[#others + 1] = {bulk and lane == 't', tonumber(all_of_it), tonumber(at_least), tonumber(asked)}
  end
end
for _, other in ipairs(others) do
  local gives_way, all_of_it, at_least, asked = unpack(other)
  if gives_way then
    ahead_of_us = ahead_of_us + all_of_it
  elseif asked < since then
    ahead_of_us = ahead_of_us + at_least
  end
end

-- Told to wait for the rate: that it waits is known to whoever asks before it does again.
local function wait(us)
  us = math.min(math.max(us, 1000), LONGEST)
  local until_ = digits(now + us + GRACE)
  if bulk then redis.call('ZADD', waiting, until_, flow) end
  if not bulk or least > 1 then
    local entry = string.format('%s|%d|%d|%.0f|%s|%s', bulk and 'b' or 't', n, least, since, asker, flow)
    if mine and mine ~= entry then redis.call('ZREM', urgent, mine) end
    redis.call('ZADD', urgent, until_, entry)
  end
  return {'wait', us, 0, ''}
end

local virtual = tonumber(l[3] or '0')
local had = virtual
if bulk then
  had = math.max(tonumber(redis.call('ZSCORE', share, flow) or '0'), virtual)
  for _, other in ipairs(redis.call('ZRANGE', waiting, '0', '99')) do
    if other ~= flow and math.max(tonumber(redis.call('ZSCORE', share, other) or '0'), virtual) < had then
      return wait(math.min(n / rate * 1000000, GRACE))
    end
  end
end

-- ---- the campaign's own rate -------------------------------------------------------------------

local paced = 0
if own_rate then
  paced = math.max(tonumber(redis.call('GET', pace) or '0'), now - CATCH_UP_OWN)
  if paced > now then
    redis.call('ZREM', waiting, flow)
    if mine then redis.call('ZREM', urgent, mine) end
    return {'wait', math.min(paced - now, 50 / own_rate * 1000000), 0, ''}  -- more only where the clock was set back
  end
end

-- ---- room in the rate --------------------------------------------------------------------------

local held = tonumber(l[2] or '0')
local free = redis.call('ZRANGEBYSCORE', places, '-inf', digits(now))
for _, place in ipairs(free) do held = held - tonumber(place:match('^(%d+)|')) end
if #free > 0 then redis.call('ZREMRANGEBYSCORE', places, '-inf', digits(now)) end
if redis.call('ZCARD', places) == 0 then held = 0 end
redis.call('HSET', limiter, 'held', digits(held))

local room = math.max(rate, 1) + burst - held - ahead_of_us
local wanted = math.max(least, math.min(n, math.floor(rate * WORTH)))
local granted = math.min(n, math.floor(room))
local after = 0
if granted < wanted then
  -- When will there be enough? A message to more recipients than the rate allows in a second waits for all of it.
  local missing, seen = wanted - room, 0
  if missing > held and ahead_of_us > 0 then return wait(LONGEST / 2) end  -- what comes free is others'
  missing = math.min(missing, held)
  while missing > 0 do
    local next_free = redis.call('ZRANGE', places, digits(seen), digits(seen + 63), 'WITHSCORES')
    if #next_free == 0 then return wait(LONGEST) end
    for i = 1, #next_free, 2 do
      missing = missing - tonumber(next_free[i]:match('^(%d+)|'))
      if missing <= 0 then
        after = tonumber(next_free[i + 1]) - now
        break
      end
    end
    seen = seen + 64
  end
  if after > AHEAD then return wait(after) end
  granted = wanted
end
granted = math.max(granted, least)

local at = math.max(tonumber(l[1] or '0'), now - CATCH_UP)
if bulk then
  after = math.max(after, at - now)
  if after > AHEAD then return wait(after) end
end

-- ---- a call of SendBulkEmail -------------------------------------------------------------------

-- How many of them a second? `auto` begins at 1 and doubles after every second in which all were used and none was refused;
-- near a limit at which SES refused (refused.lua) it goes back to what held, and tries the middle once in a while.
local function learnt(c)
  local calls, since = tonumber(c.rate or '1'), tonumber(c.since or '0')
  if since == 0 then
    redis.call('HSET', calls_key, 'rate', fraction(calls), 'since', digits(now))
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
      redis.call('HSET', calls_key, 'good', fraction(good))
      calls = next_calls
    end
    redis.call('HSET', calls_key, 'rate', fraction(calls), 'since', digits(now), 'wanted', '0')
  end
  return calls
end

if bulk_calls ~= '' then
  local found = redis.call('HMGET', calls_key, 'next', 'rate', 'since', 'wanted', 'good', 'ceiling', 'probe')
  local c = {rate = found[2], since = found[3], wanted = found[4], good = found[5], ceiling = found[6], probe = found[7]}
  local calls = bulk_calls == 'unlimited' and math.huge or tonumber(bulk_calls) or learnt(c)
  local next_call = math.min(tonumber(found[1] or '0'), now + 11000000)  -- the longest pause is ten seconds; of 'unlimited', where SES has refused one all the same (refused.lua)
  if next_call > now + after then
    redis.call('HSET', calls_key, 'wanted', '1')
    return {'singles', 0, 0, ''}
  end
  if after == 0 and granted < math.min(n, math.floor(rate * SMALL)) then
    -- Or the calls would become ever smaller: each takes what the last one left, and leaves as little a second later.
    local next_free = redis.call('ZRANGE', places, '0', '0', 'WITHSCORES')
    if next_free[2] and tonumber(next_free[2]) - now < MERGE then return wait(tonumber(next_free[2]) - now) end
  end
  -- A little slower than the limit, for what the network does to the distance of two calls. Above ten a second a place that
  -- was missed by a moment is not lost.
  local slack = calls >= 10 and 100000 or 0
  if bulk_calls ~= 'unlimited' then
    redis.call('HSET', calls_key, 'next', digits(math.max(next_call, now + after - slack) + 1020000 / calls))
  end
end

-- ---- the place ---------------------------------------------------------------------------------

local cost = granted / rate * 1000000
local admitted = redis.call('HINCRBY', account, 'admitted', digits(granted))
local from, lasts = now + math.floor(after), math.max(math.ceil(cost), 1000000)
local place = string.format('%d|%.0f|%.0f|%.0f', granted, from, lasts, admitted)
redis.call('ZADD', places, digits(from + lasts + UNANSWERED), place)
redis.call('HSET', limiter, 'tat', digits(at + cost / PACE), 'held', digits(held + granted))
if own_rate then
  cost = granted / own_rate * 1000000
  redis.call('SET', pace, digits(paced + cost), 'PX',
             digits(math.ceil(math.max(paced + cost - now, 0) / 1000) + 1000))
end
if bulk then
  redis.call('ZREM', waiting, flow)
  redis.call('HSET', limiter, 'virtual', digits(had))
  redis.call('ZREMRANGEBYSCORE', share, '-inf', digits(had))
  redis.call('ZADD', share, digits(had + granted), flow)
end
if mine then redis.call('ZREM', urgent, mine) end
return {'go', after, granted, place}
