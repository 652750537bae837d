-- What the scripts of the ledger have in common. A record is 9 bytes: state, mode, failures (1), attempts (2, big-endian),
-- updated_at (4, seconds).
-- include mailer/redis/lua/lib/numbers.lua

local RECORD = 9
local UNUSABLE = 255  -- in the place of failures: the row was rejected when it was read, and cannot be sent to
local MESSAGE_ID = 27
local OF_A_CHUNK = {'container', 'chunk', 'records', 'window', 'details', 'ids', 'payload'}  -- keys, by their names

local function record(state, mode, failures, attempts, now)
  return state .. mode .. struct.pack('>BHI4', failures, attempts, math.floor(now / 1000))
end

-- When the lease with this fence ends, or has ended; nil where it is lost: taken, which raises the fence, or given back. One that
-- has run out and that nobody has taken is its holder's still, for the fence alone tells what may be claimed.
local function held_until(chunk, fence)
  local meta = redis.call('HMGET', chunk, 'fence', 'until')
  local ends = tonumber(meta[2] or '0')
  return meta[1] == fence and ends > 0 and ends or nil
end

-- Whoever held the lease with this fence is alive, though it ran out: it was not lost with the chunk, as lease.lua had to take it.
local function was_not_lost(chunk, fence)
  local lost = redis.call('HMGET', chunk, 'lost', 'starts', 'deaths')
  if lost[1] ~= fence then return end
  redis.call('HSET', chunk, 'starts', digits(math.max(0, tonumber(lost[2] or '0') - 1)),
             'deaths', digits(math.max(0, tonumber(lost[3] or '0') - 1)))
  redis.call('HDEL', chunk, 'lost')
end

local function hold(chunk, due, chunk_id, ends)
  redis.call('HSET', chunk, 'until', digits(ends))
  redis.call('ZADD', due, digits(ends), chunk_id)
end

-- A state that is over: neither waiting to be sent nor in the middle of it.
local function is_open(state)
  return state == 'q' or state == 'c'
end

-- A campaign stands still, or goes on: that time is not part of its rate.
local function stand_still(container, now)
  if redis.call('HEXISTS', container, 'started') == 1 then redis.call('HSETNX', container, 'idle_since', digits(now)) end
end

local function go_on(container, now)
  local since = redis.call('HGET', container, 'idle_since')
  if not since then return end
  redis.call('HINCRBY', container, 'idle', digits(math.max(0, now - tonumber(since))))
  redis.call('HDEL', container, 'idle_since')
end

-- What a worker says that becomes of recipients in doubt: a campaign keeps it. A message does not wait for them.
local function note_policy(container, transactional, bulk)
  local c = redis.call('HMGET', container, 'lane', 'doubt', 'keep', 'state')
  local policy = c[1] == 'bulk' and bulk or transactional
  if c[4] and not c[3] and policy ~= '' and c[2] ~= policy then redis.call('HSET', container, 'doubt', policy) end
end

-- Recipients in doubt who are to be sent to again, or taken for sent, where SES says nothing of them. 0 where it is left at that:
-- because the lane says so (lease.lua keeps its word), or because nothing more of the campaign is sent.
local function undecided(container, now)
  local c = redis.call('HMGET', container, 'n:k', 'doubt', 'expires', 'state')
  local n = tonumber(c[1] or '0')
  if n <= 0 or (c[2] ~= 'resend' and c[2] ~= 'assume_sent') or c[4] == 'cancelled' then return 0, '' end
  if c[2] == 'resend' and c[3] and tonumber(c[3]) <= now then return 0, '' end
  return n, c[2]
end

-- Nothing of a campaign is open any more: it is finished, unless more may be sent because somebody is in doubt. Then it is parked
-- until that is decided. Returns 1 where it is finished by this.
local function finish(container, now)
  local n, policy = undecided(container, now)
  if n == 0 then
    redis.call('HSET', container, 'state', 'finished', 'reason', '', 'finished', digits(now))
    redis.call('HDEL', container, 'waits')
    return 1
  end
  redis.call('HSET', container, 'waits', '1')
  local state = redis.call('HGET', container, 'state')
  if state == 'running' or state == 'parked' then
    local who = n == 1 and '1 recipient whom' or (digits(n) .. ' recipients whom')
    local what = policy == 'resend' and 'sent to again' or 'taken for sent'
    redis.call('HSET', container, 'state', 'parked', 'reason', 'waiting to hear of ' .. who ..
               ' SES may have accepted; who is not heard of within MAILER_UNKNOWN_GRACE_S is ' .. what)
    stand_still(container, now)
  end
  return 0
end

-- To be called where somebody is in doubt no more: a campaign that waited for that alone may be finished.
local function decided(container, now)
  local c = redis.call('HMGET', container, 'waits', 'state', 'n:q', 'n:c')
  if c[1] and c[2] ~= 'cancelled' and tonumber(c[3] or '0') + tonumber(c[4] or '0') == 0 then finish(container, now) end
end

-- A container that is ready and waits for its time runs from then on. Returns its state; nil where there is no container.
local function begin_when_due(container, now)
  local c = redis.call('HMGET', container, 'state', 'ready', 'at', 'n:q', 'n:c')
  if c[1] ~= 'planned' or not c[2] or tonumber(c[3] or '0') > now then
    return c[1]
  end
  redis.call('HSET', container, 'state', 'running', 'reason', '')
  if tonumber(c[4] or '0') + tonumber(c[5] or '0') == 0 then finish(container, now) end
  return redis.call('HGET', container, 'state')
end

-- Nothing more becomes of a campaign by itself, so that it may be forgotten after a while. A cancelled one is over when all that
-- was queued has been counted out and all that was in flight is settled; at once, where its list was not read to its end.
local function is_over(container)
  local c = redis.call('HMGET', container, 'state', 'finished', 'ready')
  return not c[1] or c[1] == 'finished' or c[1] == 'stopped' or (c[1] == 'cancelled' and (c[2] or not c[3]))
end

-- Take a campaign that was on its way to be forgotten among the active ones. Its chunks' keys are left to revive.lua.
local function make_active(container, window, active, id)
  redis.call('PERSIST', container)
  redis.call('PERSIST', window)
  redis.call('ZADD', active, 'NX', redis.call('HGET', container, 'created'), id)
end

-- Move counts from state to state. `moves` is {from .. to -> n}.
local function count_moves(container, moves)
  for pair, n in pairs(moves) do
    redis.call('HINCRBY', container, 'n:' .. pair:sub(1, 1), digits(-n))
    redis.call('HINCRBY', container, 'n:' .. pair:sub(2, 2), digits(n))
  end
end

-- Why recipients of a campaign are not sent to, counted: `why:<reason>` of its container. What differs from row to row (numbers,
-- addresses, the day of an entry of a suppression list) is left out of the reason. Reasons beyond the first 40 are counted together, so that the hash stays small.
local WHYS = 40
local COUNTED = {f = true, r = true, p = true}

local function count_why(container, reason, n)
  if reason == '' then return end
  local class = reason:gsub(' since %d%d%d%d%-%d%d%-%d%d', ''):gsub('[^%s<>\'"]+@[^%s<>\'"]+', '…'):gsub('%d[%d,.:]*', '…')
  local field, others = 'why:' .. class, 'why:other reasons'
  if redis.call('HEXISTS', container, field) == 0 then
    local room = tonumber(redis.call('HGET', container, 'whys') or '0') < WHYS
    if n < 0 or not room then field = others else redis.call('HINCRBY', container, 'whys', '1') end
  end
  if redis.call('HINCRBY', container, field, digits(n)) <= 0 then
    redis.call('HDEL', container, field)
    if field ~= others then redis.call('HINCRBY', container, 'whys', '-1') end
  end
end

-- A recipient's state changes, and its reason with it. To be called before the new reason is stored in `details`.
local function move_why(container, details, chunk_id, position, was, state, reason)
  if chunk_id:sub(1, 1) ~= 'c' then return end  -- a message tells its own
  if COUNTED[was] then count_why(container, redis.call('HGET', details, digits(position)) or '', -1) end
  if COUNTED[state] then count_why(container, reason or '', 1) end
end

-- How a recipient came to be bounced or complained, `Manner` of work.py: `b<position>` of the details, where it is not '-'.
-- Its container counts them in `m:<state><manner>`.
local function manner_of(details, state, position)
  return (state == 'b' or state == 'm') and redis.call('HGET', details, 'b' .. position) or '-'
end

local function change_manner(container, details, position, was, now)
  if was == now then return end
  if was:sub(2) ~= '-' then
    redis.call('HINCRBY', container, 'm:' .. was, '-1')
    redis.call('HDEL', details, 'b' .. position)
  end
  if now:sub(2) ~= '-' then
    redis.call('HINCRBY', container, 'm:' .. now, '1')
    redis.call('HSET', details, 'b' .. position, now:sub(2))
  end
end

-- What a campaign is judged by, as SES judges an account: e-mails that SES tried to deliver and of which the fate is known; of them
-- those that bounced for good, those that were delivered, and of these those that were complained about. Who complained has got it.
local function judged(container)
  local c = redis.call('HMGET', container, 'n:d', 'n:b', 'n:m', 'm:bn', 'm:bs', 'm:bx', 'm:mx')
  for i = 1, 7 do c[i] = tonumber(c[i] or '0') end
  local complained = c[3] - c[7]
  local delivered = c[1] + complained
  return delivered + c[2] - c[6], c[2] - c[4] - c[5] - c[6], delivered, complained
end

-- Recipients of a chunk came in doubt (n > 0) or out of it. The index says since when the oldest doubt of the chunk lasts.
local function change_doubt(chunk, doubt, chunk_id, n, now)
  if n == 0 then return end
  if redis.call('HINCRBY', chunk, 'doubt', digits(n)) > 0 then
    redis.call('ZADD', doubt, 'NX', digits(now), chunk_id)
  else
    redis.call('ZREM', doubt, chunk_id)
  end
end

-- After counts changed: close the chunk when nothing in it is open, and its container when nothing in any chunk is.
-- `keys` are those of the script, by their names; it has OF_A_CHUNK and `due` among them.
-- Returns 1 when the chunk is closed, and 1 when the container is finished by this.
local function close_what_is_over(keys, chunk_id, now)
  local container, chunk, window, due = keys.container, keys.chunk, keys.window, keys.due
  if tonumber(redis.call('HGET', chunk, 'open') or '0') > 0 then
    return 0, 0
  end
  redis.call('ZREM', due, chunk_id)
  redis.call('SREM', window, chunk_id:match('%-(%d+)$'))
  local c = redis.call('HMGET', container, 'n:q', 'n:c', 'state', 'keep', 'finished', 'over')
  if c[6] then redis.call('ZADD', c[6], digits(now), chunk_id) end  -- the index of what is to be archived
  local left = tonumber(c[1] or '0') + tonumber(c[2] or '0')
  if left > 0 or c[3] == 'finished' or c[3] == 'planned' or (c[3] == 'cancelled' and c[5]) then
    return 1, 0
  end
  if c[3] == 'cancelled' then
    redis.call('HSET', container, 'finished', digits(now))
    return 1, 1
  end
  local finished = finish(container, now)
  if c[4] then
    -- A message is one chunk: its time to be forgotten starts here. A campaign's is the reaper's business.
    for _, name in ipairs(OF_A_CHUNK) do redis.call('EXPIRE', keys[name], c[4]) end
  end
  return 1, finished
end

-- ---- what becomes of recipients --------------------------------------------------------------------------------------

local NO_ID = string.rep('\0', MESSAGE_ID)
local OUTCOMES_KEPT = '100000'  -- entries, about 50 bytes each

local LABELS = {q = 'queued', s = 'sent', d = 'delivered', b = 'bounced', m = 'complained', p = 'suppressed', r = 'rejected',
                f = 'failed', u = 'duplicate', x = 'expired', n = 'cancelled', k = 'unknown'}

-- Tell the readers of the stream of outcomes: an entry a change.
local function publish(outcomes, chunk_id, position, state, attempts, reason)
  redis.call('XADD', outcomes, 'MAXLEN', '~', OUTCOMES_KEPT, '*', 'id', chunk_id .. '-' .. position, 'state', LABELS[state],
             'attempts', digits(attempts), 'reason', reason or '')
end

-- SES's message id of a recipient: 27 bytes, a text where it does not have the usual form, or nil.
local function known_id(ids, details, position)
  local text = redis.call('HGET', details, 'i' .. position)
  if text then return text end
  local packed = redis.call('GETRANGE', ids, digits(position * MESSAGE_ID), digits((position + 1) * MESSAGE_ID - 1))
  if #packed == MESSAGE_ID and packed ~= NO_ID then return packed end
  return nil
end

local function store_id(ids, details, records, position, id)
  if #id ~= MESSAGE_ID then
    redis.call('HSET', details, 'i' .. position, id)
    return
  end
  if redis.call('EXISTS', ids) == 0 then
    -- At full length at once: growing it bit by bit would make Redis reserve twice the room.
    redis.call('SETRANGE', ids, digits(redis.call('STRLEN', records) / RECORD * MESSAGE_ID - 1), '\0')
  end
  redis.call('SETRANGE', ids, digits(position * MESSAGE_ID), id)
end

local function as_text(id)
  if #id ~= MESSAGE_ID then return id end
  local hex = id:gsub('.', function(c) return string.format('%02x', c:byte()) end)
  return table.concat({hex:sub(1, 16), hex:sub(17, 24), hex:sub(25, 28), hex:sub(29, 32), hex:sub(33, 36), hex:sub(37, 48),
                       hex:sub(49)}, '-')
end

-- SES accepted a recipient's message under this id, and another one under the id that is kept: it was sent twice. Returns 1
-- where nothing of that was known; `d<position>` has the ids of those that were too many.
local function note_duplicate(container, details, position, id)
  local field, text = 'd' .. position, as_text(id)
  local known = redis.call('HGET', details, field) or ''
  for one in known:gmatch('%S+') do
    if one == text then return 0 end
  end
  redis.call('HSET', details, field, known == '' and text or (known .. ' ' .. text))
  if known ~= '' then return 0 end
  redis.call('HINCRBY', container, 'twice', '1')
  return 1
end

-- Keys that were made just now, beside those of a chunk that is on its way to be forgotten.
local function forget_with(records, ...)
  local ttl = redis.call('PTTL', records)
  if ttl > 0 then
    for _, key in ipairs({...}) do redis.call('PEXPIRE', key, digits(ttl)) end
  end
end

-- SES accepted n recipients, so what it was parked for is over. The rate is measured from the first answer to the last: what
-- the first one was for is not part of it.
local function note_accepted(container, n, now)
  if n == 0 then return end
  if redis.call('HSETNX', container, 'started', digits(now)) == 1 then redis.call('HSET', container, 'first', digits(n)) end
  redis.call('HSET', container, 'settled', digits(now))
  if redis.call('HGET', container, 'state') == 'parked' then
    redis.call('HSET', container, 'state', 'running', 'reason', '')
    go_on(container, now)
  end
end

-- A recipient is owed another attempt, in a chunk, and maybe a container, that was over: it goes on. `keys` as in
-- close_what_is_over.
local function reopen(keys, active, chunk_id, n, now)
  local container, chunk, window, due = keys.container, keys.chunk, keys.window, keys.due
  redis.call('HINCRBY', chunk, 'open', digits(n))
  redis.call('SADD', window, chunk_id:match('%-(%d+)$'))
  redis.call('ZADD', due, 'NX', digits(now), chunk_id)
  if redis.call('HGET', container, 'state') == 'finished' then
    redis.call('HSETNX', container, 'idle_since', redis.call('HGET', container, 'finished') or digits(now))
    go_on(container, now)
    redis.call('HSET', container, 'state', 'running')
    redis.call('HDEL', container, 'finished')
  elseif redis.call('HDEL', container, 'waits') == 1 and redis.call('HGET', container, 'state') == 'parked' then
    go_on(container, now)
    redis.call('HSET', container, 'state', 'running', 'reason', '')
  end
  for _, name in ipairs(OF_A_CHUNK) do redis.call('PERSIST', keys[name]) end
  if not redis.call('HGET', container, 'keep') then
    make_active(container, window, active, (chunk_id:match('^[^-]+')))
  end
end

-- So many recipients of a chunk more, or fewer, wait to be sent to or are being sent to. More may come in one that was over: who
-- was in doubt turned out to be refused, or not to have been handed to SES. Whether the chunk is over now is the caller's to see.
local function change_open(keys, active, chunk_id, n, now)
  if n > 0 then
    reopen(keys, active, chunk_id, n, now)
  elseif n < 0 then
    redis.call('HINCRBY', keys.chunk, 'open', digits(n))
  end
end

-- The four bytes that tell a chunk's archive from an older one; '' where it has none.
local TOKEN = 4
local function token_of(tokens, number)
  local token = redis.call('GETRANGE', tokens, digits(number * TOKEN), digits((number + 1) * TOKEN - 1))
  return #token == TOKEN and token ~= string.rep('\0', TOKEN) and token or ''
end

-- What is known of a chunk's recipients, in one digest: it changes with whatever is said of any of them.
local function chunk_digest(records, ids, details)
  local said, pairs_ = redis.call('HGETALL', details), {}
  for i = 1, #said, 2 do pairs_[#pairs_ + 1] = #said[i] .. ':' .. said[i] .. #said[i + 1] .. ':' .. said[i + 1] end
  table.sort(pairs_)
  local known = redis.call('GET', ids) or ''
  return redis.sha1hex(redis.call('GET', records) .. #known .. ':' .. known .. table.concat(pairs_)), known, said
end
