-- Fill a campaign's window: put its next chunks among those that are owed work.
-- KEYS: container, window, due
-- ARGV: campaign id, size of the window, patience (ms)
-- Returns the numbers of the chunks that were added. Their wake-ups are the caller's to queue; the reaper's, if it dies first.
-- include mailer/ledger/lua/lib/common.lua
local id, size, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local state = begin_when_due(container, now)
if state ~= 'running' and state ~= 'parked' then
  return {}
end
local c = redis.call('HMGET', container, 'next', 'chunks')
local added = {}
local number, chunks = tonumber(c[1] or '0'), tonumber(c[2] or '0')
local room = size - redis.call('SCARD', window)
while room > 0 and number < chunks do
  redis.call('SADD', window, digits(number))
  redis.call('ZADD', due, digits(now + patience), id .. '-' .. number)
  added[#added + 1] = number
  number = number + 1
  room = room - 1
end
if #added > 0 then
  redis.call('HSET', container, 'next', digits(number))
end
return added
