-- The rate of an account, the places in it, and what of its 24 h quota was used when.
-- include mailer/redis/lua/lib/numbers.lua

-- Recipients per second: the account's own rate, or the lower one that was set.
local function send_rate(account_rate, lower)
  local rate = tonumber(account_rate)
  return lower == '' and rate or math.min(rate, tonumber(lower))
end

-- What is used of it after SES refused for its sake: `lowered`, and every five seconds without a refusal a twentieth of the
-- whole more.
local function rate_now(rate, lowered, lowered_at, now)
  if not lowered or lowered == '' then return rate end
  local steps = math.max(0, math.floor((now - tonumber(lowered_at)) / 5000000))
  return math.min(rate, tonumber(lowered) + steps * rate / 20)
end

-- How long a place in the rate is kept where no answer is stored: SES has counted the call by then, or never will.
local UNANSWERED = 5000000

-- The place was not used: others may have it, and at once. Returns its recipients; 0 where it is not there.
local function leave_place(limiter, places, place, rate, now)
  if place == '' or redis.call('ZREM', places, place) == 0 then return 0 end
  local n = tonumber(place:match('^(%d+)|'))
  local tat = tonumber(redis.call('HGET', limiter, 'tat') or '0')
  redis.call('HINCRBY', limiter, 'held', digits(-n))
  if rate > 0 and tat > now then redis.call('HSET', limiter, 'tat', digits(math.max(now, tat - n / rate * 1000000))) end
  return n
end

-- SES has answered: the place is free one second after it counted the call, which was not later than now. A part of a call's
-- time is always the way there and back, and the next call's needs it, too: a quarter of the least that a call took in the last
-- half minute is taken for that.
local function answer_place(limiter, places, place, now)
  local free_at = place ~= '' and redis.call('ZSCORE', places, place)
  local _, at, lasts = place:match('^(%d+)|(%d+)|(%d+)|')
  if not free_at or tonumber(free_at) < at + lasts + UNANSWERED then return end  -- or it was answered before
  local took = math.max(now - at, 0)
  local l = redis.call('HMGET', limiter, 'least', 'next_least', 'least_at')
  local least, next_least = tonumber(l[1] or '0'), math.min(tonumber(l[2] or took), took)
  if now - tonumber(l[3] or digits(now)) >= 30000000 then
    least, next_least = next_least, took
    redis.call('HSET', limiter, 'least_at', digits(now))
  elseif not l[3] then
    redis.call('HSET', limiter, 'least_at', digits(now))
  end
  redis.call('HSET', limiter, 'least', digits(least), 'next_least', digits(next_least))
  redis.call('ZADD', places, 'XX', digits(now - math.min(least, next_least) / 4 + lasts), place)
end

-- Recipients that SES accepted, by tenths of an hour, a day long: they tell when how much of the 24 h quota comes free.
local function remember_sent(history, n, now)
  local slot = math.floor(now / 360000)
  if redis.call('HINCRBY', history, digits(slot), digits(n)) == tonumber(n) then
    for _, old in ipairs(redis.call('HKEYS', history)) do
      if tonumber(old) < slot - 241 then redis.call('HDEL', history, old) end
    end
  end
end
