-- Somebody wants some recipients of a chunk sent to again.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes, active
-- ARGV: chunk id, the states of those recipients, a byte each: f, k, r
-- Returns {the container's state before, or 'expired', how many are queued again; -1 where Redis does not have the chunk}
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, states = ARGV[1], ARGV[2]
local now = now_ms()
local c = redis.call('HMGET', container, 'state', 'expires', 'ready')
if not c[1] or not c[3] then return {c[1] or 'gone', 0} end
if c[1] == 'cancelled' or c[1] == 'planned' then return {c[1], 0} end
if c[2] and tonumber(c[2]) <= now then return {'expired', 0} end

local all = redis.call('GET', records)
if not all then return {c[1], -1} end
local moves, n, doubtful = {}, 0, 0
for at = 0, #all - 1, RECORD do
  local was, failures, attempts = all:sub(at + 1, at + 1), struct.unpack('>BH', all, at + 3)
  if states:find(was, 1, true) and not (was == 'r' and failures == UNUSABLE) then
    local position = at / RECORD
    if was ~= 'k' and known_id(ids, details, position) then
      -- SES had accepted it, and could not render it or found a virus in it. What is still said of that attempt is not said of
      -- the next.
      redis.call('HSET', details, 'x' .. position, digits(attempts))
      redis.call('HDEL', details, 'i' .. position)
      redis.call('SETRANGE', ids, digits(position * MESSAGE_ID), NO_ID)
    end
    redis.call('SETRANGE', records, digits(at), record('q', all:sub(at + 2, at + 2), 0, attempts, now))
    move_why(container, details, chunk_id, position, was, 'q')
    redis.call('HDEL', details, digits(position), 'k' .. position)
    publish(outcomes, chunk_id, position, 'q', attempts)
    moves[was .. 'q'] = (moves[was .. 'q'] or 0) + 1
    if was == 'k' then doubtful = doubtful - 1 end
    n = n + 1
  end
end
if n > 0 then
  count_moves(container, moves)
  change_doubt(chunk, doubt, chunk_id, doubtful, now)
  reopen(keys, active, chunk_id, n, now)
end
return {c[1], n}
