-- A worker whose claim was not given made no call by it. The claim may be stored all the same: its answer was lost, and when it
-- was repeated the lease was. Its recipients are queued again, also where another lease has found them in doubt since; those of
-- another worker's claim with the same attempt number are left alone. May be repeated.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes, active
-- ARGV: chunk id, fence, packed rows: position (2), attempt (2), what the stream of outcomes says where the campaign is cancelled
-- Returns how many recipients that was done to; -1 where Redis does not have the chunk.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, fence, rows, reason = unpack(ARGV)
local now = now_ms()
local all, campaign = redis.call('GET', records), redis.call('HGET', container, 'state')
if not all or not campaign then
  return -1
end
local ours = redis.call('HGET', chunk, 'fence') == fence  -- then so is every claim
local state = campaign == 'cancelled' and 'n' or 'q'
local moves, n, opened, doubtful = {}, 0, 0, 0
for i = 1, #rows, 4 do
  local position, attempt = struct.unpack('>HH', rows, i)
  local at = position * RECORD
  local was, mode, failures, attempts = all:sub(at + 1, at + 1), all:sub(at + 2, at + 2), struct.unpack('>BH', all, at + 3)
  local note = 'k' .. position
  if attempts == attempt and
    ((was == 'c' and ours) or (was == 'k' and redis.call('HGET', details, note) == fence .. ':' .. attempt)) then
    redis.call('SETRANGE', records, digits(at), record(state, mode, failures, attempts, now))
    moves[was .. state] = (moves[was .. state] or 0) + 1
    n = n + 1
    if was == 'k' then doubtful = doubtful - 1 end
    if is_open(was) and not is_open(state) then opened = opened - 1 end
    if is_open(state) and not is_open(was) then opened = opened + 1 end
    if was == 'k' or state == 'n' then  -- else it was never told of, and is as it was
      redis.call('HDEL', details, digits(position), note)
      publish(outcomes, chunk_id, position, state, attempts, state == 'n' and reason or '')
    end
  end
end
count_moves(container, moves)
change_doubt(chunk, doubt, chunk_id, doubtful, now)
change_open(keys, active, chunk_id, opened, now)
if opened < 0 then close_what_is_over(keys, chunk_id, now) end
return n
