-- Put in front of every script of this folder. A record is 9 bytes: state, mode, failures (1), attempts (2, big-endian),
-- updated_at (4, seconds). Time is Redis's own, never a worker's.

local RECORD = 9
local MESSAGE_ID = 27

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Lua prints large numbers as 1.7e+12; Redis needs the digits.
local function digits(number)
  return string.format('%.0f', number)
end

local function record(state, mode, failures, attempts, now)
  return state .. mode .. struct.pack('>BHI4', failures, attempts, math.floor(now / 1000))
end

-- A state that is over: neither waiting to be sent nor in the middle of it.
local function is_open(state)
  return state == 'q' or state == 'c'
end

-- Move counts from state to state. `moves` is {from .. to -> n}.
local function count_moves(container, moves)
  for pair, n in pairs(moves) do
    redis.call('HINCRBY', container, 'n:' .. pair:sub(1, 1), -n)
    redis.call('HINCRBY', container, 'n:' .. pair:sub(2, 2), n)
  end
end

-- After counts changed: close the chunk when nothing in it is open, and its container when nothing in any chunk is.
-- `keys` are those of lease.lua and settle.lua: container, chunk, records, window, due, details, message ids, payload.
-- Returns 1 when the chunk is closed, and 1 when the container is finished by this.
local function close_what_is_over(keys, chunk_id, now)
  local container, chunk, window, due = keys[1], keys[2], keys[4], keys[5]
  if tonumber(redis.call('HGET', chunk, 'open') or '0') > 0 then
    return 0, 0
  end
  redis.call('ZREM', due, chunk_id)
  redis.call('SREM', window, chunk_id:match('%-(%d+)$'))
  local c = redis.call('HMGET', container, 'n:q', 'n:c', 'state', 'keep')
  local left = tonumber(c[1] or '0') + tonumber(c[2] or '0')
  if left > 0 or c[3] == 'finished' or c[3] == 'cancelled' or c[3] == 'planned' then
    return 1, 0
  end
  redis.call('HSET', container, 'state', 'finished', 'reason', '', 'finished', digits(now))
  if c[4] then
    -- A message is one chunk: its time to be forgotten starts here. A campaign's is the reaper's business.
    for _, key in ipairs(keys) do
      if key ~= due then redis.call('EXPIRE', key, c[4]) end
    end
  end
  return 1, 1
end
