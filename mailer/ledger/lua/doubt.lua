-- Recipients of one chunk have been in doubt for longer than the grace, and no event of SES has come: what the lane says then.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes, active
-- ARGV: chunk id, grace (ms), 'resend' | 'hold' | 'assume_sent', reason of those that are assumed to be sent
-- Returns how many recipients that was done to. The index then has the time from which on the chunk is to be looked at again.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, grace, policy, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now = now_ms()
local c = redis.call('HMGET', container, 'state', 'expires')
local all = redis.call('GET', records)
if not c[1] or not all then
  redis.call('ZREM', doubt, chunk_id)
  return 0
end
note_policy(container, policy, policy)
-- Of what is not to be sent any more, nobody is sent to again; and nobody who may have got it is called `expired`.
if policy == 'resend' and (c[1] == 'cancelled' or (c[2] and tonumber(c[2]) <= now)) then policy = 'hold' end

local n, oldest = 0, nil
for at = 0, #all - 1, RECORD do
  if all:sub(at + 1, at + 1) == 'k' then
    local failures, attempts, updated = struct.unpack('>BHI4', all, at + 3)
    if policy ~= 'hold' and updated * 1000 + grace <= now then
      local position, state = at / RECORD, policy == 'resend' and 'q' or 's'
      redis.call('SETRANGE', records, digits(at), record(state, all:sub(at + 2, at + 2), failures, attempts, now))
      n = n + 1
      redis.call('HDEL', details, 'k' .. position)
      if state == 'q' then
        redis.call('HDEL', details, digits(position))
      else
        redis.call('HSET', details, digits(position), reason)
      end
      publish(outcomes, chunk_id, position, state, attempts, state == 's' and reason or '')
    elseif updated * 1000 + grace > now then
      oldest = math.min(oldest or updated, updated)
    end
  end
end
if n > 0 then
  forget_with(records, details)
  if policy == 'resend' then
    count_moves(container, {kq = n})
    reopen(keys, active, chunk_id, n, now)
  else
    count_moves(container, {ks = n})
  end
  change_doubt(chunk, doubt, chunk_id, -n, now)
end
decided(container, now)
-- Those that are held are looked at again after another grace, in case the lane says something else by then.
redis.call('ZADD', doubt, 'XX', digits(oldest and oldest * 1000 or now), chunk_id)
return n
