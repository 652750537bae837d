-- The list is read to its end: let the campaign run, now or at its time.
-- KEYS: container
-- ARGV: rows, chunks, how many states, then pairs state, count, then pairs reason, count of the rows that
-- cannot be used
-- Returns the campaign's state afterwards; it is 'finished' at once when no row can be sent. Doing it twice changes nothing.
-- include mailer/ledger/lua/lib/common.lua
local state = redis.call('HGET', container, 'state')
if state ~= 'planned' then
  return state or 'gone'
end
redis.call('HSET', container, 'rows', ARGV[1], 'chunks', ARGV[2], 'next', '0', 'ready', '1')
local states = 3 + 2 * ARGV[3]
for i = 4, states, 2 do
  redis.call('HSET', container, 'n:' .. ARGV[i], ARGV[i + 1])
end
for i = states + 1, #ARGV, 2 do
  count_why(container, ARGV[i], tonumber(ARGV[i + 1]))
end
local at = redis.call('HGET', container, 'at_text')
redis.call('HSET', container, 'reason', at and ('to be sent at ' .. at) or '')
return begin_when_due(container, now_ms())
