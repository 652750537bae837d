-- Persist "this attempt is about to hand these recipients to SES". All of them, or none.
-- Repeating a claim whose answer was lost is allowed: same fence, same attempt numbers.
-- KEYS: container, chunk, records, due
-- ARGV: fence, mode (1 byte), packed rows: position (2), attempt (2), chunk id, lease (ms) from now on where it has run out
-- Returns 'ok' | 'lost' (the lease) | 'conflict' (a recipient is not ours to send) | 'expired' | the container's state, if it
-- is not sending.
-- include mailer/ledger/lua/lib/common.lua
local fence, mode, rows, chunk_id, lease = unpack(ARGV)
local now = now_ms()

local all, ends = redis.call('GET', records), held_until(chunk, fence)
if not all or not ends then  -- without records: by a Redis that has forgotten its last second
  return 'lost'
end
local writes, fresh = {}, 0
for i = 1, #rows, 4 do
  local position, attempt = struct.unpack('>HH', rows, i)
  local at = position * RECORD
  local was, failures, attempts = all:sub(at + 1, at + 1), struct.unpack('>BH', all, at + 3)
  if was == 'q' and attempts == attempt - 1 then
    fresh = fresh + 1
    writes[#writes + 1] = {digits(at), record('c', mode, failures, attempt, now)}
  elseif not (was == 'c' and attempts == attempt) then
    return 'conflict'
  end
end
if fresh > 0 then  -- else it is stored, and only the answer got lost; what has become of the campaign since then comes too late
  local c = redis.call('HMGET', container, 'state', 'expires')
  if c[1] ~= 'running' and c[1] ~= 'parked' then
    return c[1] or 'gone'
  end
  if c[2] and tonumber(c[2]) <= now then
    return 'expired'
  end
  for _, write in ipairs(writes) do
    redis.call('SETRANGE', records, write[1], write[2])
  end
  count_moves(container, {qc = fresh})
end
if ends <= now then hold(chunk, due, chunk_id, now + lease) end
return 'ok'
