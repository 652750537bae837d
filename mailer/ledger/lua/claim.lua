-- Persist "this attempt is about to hand these recipients to SES". All of them, or none.
-- Repeating a claim whose answer was lost is allowed: same fence, same attempt numbers.
-- KEYS: container, chunk, records   ARGV: fence, mode (1 byte), packed rows: position (2), attempt (2)
-- Returns 'ok' | 'lost' (the lease) | 'conflict' (a recipient is not ours to send) | 'expired' | the container's state, if it
-- is not sending.
local container, chunk, records = unpack(KEYS)
local fence, mode, rows = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()

local meta = redis.call('HMGET', chunk, 'fence', 'until')
if meta[1] ~= fence or tonumber(meta[2] or '0') <= now then
  return 'lost'
end
local all = redis.call('GET', records)
if not all then
  return 'lost'  -- by a Redis that has forgotten its last second
end
local writes, fresh = {}, 0
for i = 1, #rows, 4 do
  local position, attempt = struct.unpack('>HH', rows, i)
  local at = position * RECORD
  local was, failures, attempts = all:sub(at + 1, at + 1), struct.unpack('>BH', all, at + 3)
  if was == 'q' and attempts == attempt - 1 then
    fresh = fresh + 1
    writes[#writes + 1] = {at, record('c', mode, failures, attempt, now)}
  elseif not (was == 'c' and attempts == attempt) then
    return 'conflict'
  end
end
if fresh == 0 then
  return 'ok'  -- it is stored, and only the answer got lost; what has become of the campaign since then comes too late
end
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
return 'ok'
