-- include mailer/redis/lua/lib/numbers.lua

-- ---- what is held because SES refuses it ------------------------------------------------------------------------------
-- A hash with `until`, before which nothing of it is tried; `pause`, `reason`; `tried`: somebody has the turn to try one.

-- Hold it, or hold it on after one more was refused: for twice as long. Those that were under way together are one refusal.
local function hold_back(key, reason, first, longest, now)
  local h = redis.call('HMGET', key, 'until', 'pause', 'tried')
  local ends, pause = tonumber(h[1] or '0'), tonumber(h[2] or '0')
  if pause == 0 or h[3] then
    pause = pause == 0 and first or math.min(pause * 2, longest)
    ends = now + pause
    redis.call('HSET', key, 'until', digits(ends), 'pause', digits(pause))
    redis.call('HDEL', key, 'tried')
  end
  redis.call('HSET', key, 'reason', reason)
  return math.max(ends - now, 1)
end

-- How long nothing of these may be tried (ms), and why. 0: it is not held, or it is the caller's turn to try one; then 1 behind.
local function held_back(keys, now)
  local turn = 0
  for _, key in ipairs(keys) do
    local h = redis.call('HMGET', key, 'until', 'reason', 'pause')
    if h[1] then
      local left = tonumber(h[1]) - now
      if left > 0 and left <= tonumber(h[3]) then return left, h[2], 0 end  -- longer: the clock was set back
      turn = 1
    end
  end
  if turn == 1 then
    for _, key in ipairs(keys) do
      local pause = redis.call('HGET', key, 'pause')
      if pause then redis.call('HSET', key, 'until', digits(now + pause), 'tried', '1') end
    end
  end
  return 0, '', turn
end
