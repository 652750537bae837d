-- The clock of every script, in microseconds: Redis's own, never a worker's. Tests put another in its place.
local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
