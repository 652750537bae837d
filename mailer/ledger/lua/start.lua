-- The list is read to its end: let the campaign run. KEYS: container   ARGV: rows, chunks, then pairs state, count
-- Returns the campaign's state afterwards; it is 'finished' at once when no row can be sent. Doing it twice changes nothing.
local container = KEYS[1]
local state = redis.call('HGET', container, 'state')
if state ~= 'planned' then
  return state or 'gone'
end
local now = now_ms()
local queued = 0
redis.call('HSET', container, 'rows', ARGV[1], 'chunks', ARGV[2], 'next', '0')
for i = 3, #ARGV, 2 do
  redis.call('HSET', container, 'n:' .. ARGV[i], ARGV[i + 1])
  if ARGV[i] == 'q' then queued = tonumber(ARGV[i + 1]) end
end
state = queued > 0 and 'running' or 'finished'
redis.call('HSET', container, 'state', state, 'reason', '')
if state == 'finished' then
  redis.call('HSET', container, 'finished', digits(now))
end
return state
