-- Count out what is still queued in one chunk of a cancelled campaign. What is claimed settles as it comes. May be repeated.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes
-- ARGV: chunk id, its number,
-- reason, for the stream of outcomes only: the same for all, so that it is not kept with each
-- Returns how many recipients were counted out.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, number = ARGV[1], tonumber(ARGV[2])
local c = redis.call('HMGET', container, 'state', 'sweep')
if c[1] ~= 'cancelled' or not c[2] then
  return 0
end
local now = now_ms()
local all = redis.call('GET', records) or ''
local time = struct.pack('>I4', math.floor(now / 1000))
local parts, n = {}, 0
for at = 1, #all, RECORD do
  if all:sub(at, at) == 'q' then
    n = n + 1
    publish(outcomes, chunk_id, math.floor(at / RECORD), 'n', (struct.unpack('>H', all, at + 3)), ARGV[3])
    parts[#parts + 1] = 'n' .. all:sub(at + 1, at + RECORD - 5) .. time
  else
    parts[#parts + 1] = all:sub(at, at + RECORD - 1)
  end
end
if n > 0 then
  redis.call('SETRANGE', records, '0', table.concat(parts))
  count_moves(container, {qn = n})
  redis.call('HINCRBY', chunk, 'open', digits(-n))
end
close_what_is_over(keys, chunk_id, now)
if tonumber(c[2]) == number then  -- the others that sweep go on from here, too, and from here after a crash
  redis.call('HSET', container, 'sweep', digits(number + 1))
end
return n
