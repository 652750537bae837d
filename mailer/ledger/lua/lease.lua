-- Take a chunk for one worker. A claim that an earlier lease left without a settle becomes `unknown` here, and nowhere else.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes
-- ARGV: chunk id, owner, lease (ms), what becomes of a campaign's recipients in doubt, in the transactional lane and in bulk; ''
--       where the caller does not say it
-- Returns {status, fence, records, now (ms), starts, suspects, deaths}: 'ok' | 'busy' | 'over' (nothing open) | 'gone' | 'early' (its
-- time has not come)
-- | the container's state, if not sending.
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()
note_policy(container, ARGV[4], ARGV[5])

local state = begin_when_due(container, now)
local meta = redis.call('HMGET', chunk, 'fence', 'until', 'open', 'size', 'starts', 'mark', 'suspects', 'deaths')
local all = redis.call('GET', records)
if not state or not meta[4] or not all then
  redis.call('ZREM', due, chunk_id)
  return {'gone', 0, '', now}
end
if state == 'planned' and redis.call('HGET', container, 'ready') then
  redis.call('ZADD', due, redis.call('HGET', container, 'at'), chunk_id)
  return {'early', 0, '', now}
end
if tonumber(meta[2] or '0') > now then
  return {'busy', tonumber(meta[1]), '', now}
end

local doubtful = 0
for position = 0, tonumber(meta[4]) - 1 do
  local at = position * RECORD
  if all:sub(at + 1, at + 1) == 'c' then
    local failures, attempts = struct.unpack('>BH', all, at + 3)
    redis.call('SETRANGE', records, digits(at), record('k', all:sub(at + 2, at + 2), failures, attempts, now))
    local reason = 'the worker stopped before SES\'s answer was stored'
    -- Whose claim it was: all claims are of the last lease. The attempt numbers of a recipient only grow, so a note that is left
    -- behind fits nobody else's. See unclaim.lua.
    redis.call('HSET', details, digits(position), reason, 'k' .. position, meta[1] .. ':' .. attempts)
    publish(outcomes, chunk_id, position, 'k', attempts, reason)
    doubtful = doubtful + 1
  end
end
if doubtful > 0 then
  forget_with(records, details)
  count_moves(container, {ck = doubtful})
  change_doubt(chunk, doubt, chunk_id, doubtful, now)
  redis.call('HINCRBY', chunk, 'open', digits(-doubtful))
  all = redis.call('GET', records)
end

local closed = close_what_is_over(keys, chunk_id, now)
if closed == 1 then
  return {'over', 0, '', now}
end
if state ~= 'running' and state ~= 'parked' then
  redis.call('ZREM', due, chunk_id)  -- nothing is to be done for it before somebody lets the campaign go on
  return {state, 0, '', now}
end

-- A lease that ran out: its worker died, or hangs. Workers mark what they do (mark.lua) from the first time on, and only deaths
-- at a mark count then. `suspects` are the positions that were marked, `deaths` how often in a row; the first death is taken for
-- theirs, too.
local starts, suspects, deaths = tonumber(meta[5] or '0'), meta[7] or '', tonumber(meta[8] or '0')
local mark = meta[6] or ''
if tonumber(meta[2] or '0') > 0 and (starts == 0 or mark ~= '') then
  starts = starts + 1
  local first, last = mark:match('^(%d+)-(%d+)$')
  local from, to = suspects:match('^(%d+)-(%d+)$')
  if mark ~= '' then
    local among = mark == suspects or (first and from and first + 0 >= from + 0 and last + 0 <= to + 0)
    suspects, deaths = mark, (among or starts == 2) and math.max(deaths, 1) + 1 or 1
  end
  redis.call('HSET', chunk, 'starts', digits(starts), 'lost', meta[1], 'suspects', suspects, 'deaths', digits(deaths))
end
redis.call('HDEL', chunk, 'mark')

-- By the clock, for a Redis that was started anew may have forgotten the last one that it gave, to a worker that is still at it.
local fence = math.max(tonumber(meta[1] or '0') + 1, now)
redis.call('HSET', chunk, 'fence', digits(fence), 'owner', owner, 'until', digits(now + lease))
redis.call('ZADD', due, digits(now + lease), chunk_id)
return {'ok', fence, all, now, starts, suspects, deaths}
