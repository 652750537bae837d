-- A message that has not been handed to SES is not sent, and one that is in doubt is not sent again.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes
-- ARGV: chunk id, reason
-- Returns {the recipient's state afterwards, 1 where this changed something}; {'', 0} where Redis does not have it.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, reason = ARGV[1], ARGV[2]
local now = now_ms()
local all, state = redis.call('GET', records), redis.call('HGET', container, 'state')
if not all or not state then
  return {'', 0}
end
local was, mode, failures, attempts = all:sub(1, 1), all:sub(2, 2), struct.unpack('>BH', all, 3)
if was == 'k' and state ~= 'cancelled' then
  redis.call('HSET', container, 'state', 'cancelled')  -- doubt.lua asks for it
  return {'k', 1}
end
if was ~= 'q' then
  return {was, 0}
end
redis.call('SETRANGE', records, '0', record('n', mode, failures, attempts, now))
redis.call('HSET', details, '0', reason)
count_moves(container, {qn = 1})
redis.call('HINCRBY', chunk, 'open', '-1')
publish(outcomes, chunk_id, 0, 'n', attempts, reason)
if state == 'planned' then redis.call('HSET', container, 'state', 'running') end  -- so that it is over now
close_what_is_over(keys, chunk_id, now)
return {'n', 1}
