-- Put in front of every script of this folder. A record is 9 bytes: state, mode, failures (1), attempts (2, big-endian),
-- updated_at (4, seconds). Time is clock.lua's, which stands before it.

local RECORD = 9
local UNUSABLE = 255  -- in the place of failures: the row was rejected when it was read, and cannot be sent to
local MESSAGE_ID = 27

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- Recipients per second: the account's own rate, or the lower one that was set.
local function send_rate(account_rate, lower)
  local rate = tonumber(account_rate)
  return lower == '' and rate or math.min(rate, tonumber(lower))
end

-- Redis is handed texts only, and a number becomes one here. Lua itself writes 1.7e+12 for a large one and -0 for the negative of
-- none, which Redis 7.0 refuses.
local function digits(number)
  local text = string.format('%.0f', number)
  return text == '-0' and '0' or text
end

-- The same of a number that may have a fraction: all of it.
local function fraction(number)
  return number == math.floor(number) and digits(number) or string.format('%.17g', number)
end

-- The bucket of an address, by its place among the bits of the suppression tables.
local function bucket(place)
  return string.format(':%04x', place % 65536)
end

-- What is used of it after SES refused for its sake: `lowered`, and every five seconds without a refusal a twentieth of the
-- whole more.
local function rate_now(rate, lowered, lowered_at, now)
  if not lowered or lowered == '' then return rate end
  local steps = math.max(0, math.floor((now - tonumber(lowered_at)) / 5000000))
  return math.min(rate, tonumber(lowered) + steps * rate / 20)
end

-- How long a place in the rate is kept where no answer is stored: SES has counted the call by then, or never will.
local UNANSWERED = 5000000

-- The place was not used: others may have it, and at once. Returns its recipients; 0 where it is not there.
local function leave_place(limiter, places, place, rate, now)
  if place == '' or redis.call('ZREM', places, place) == 0 then return 0 end
  local n = tonumber(place:match('^(%d+)|'))
  local tat = tonumber(redis.call('HGET', limiter, 'tat') or '0')
  redis.call('HINCRBY', limiter, 'held', digits(-n))
  if rate > 0 and tat > now then redis.call('HSET', limiter, 'tat', digits(math.max(now, tat - n / rate * 1000000))) end
  return n
end

-- SES has answered: the place is free one second after it counted the call, which was not later than now. A part of a call's
-- time is always the way there and back, and the next call's needs it, too: a quarter of the least that a call took in the last
-- half minute is taken for that.
local function answer_place(limiter, places, place, now)
  local free_at = place ~= '' and redis.call('ZSCORE', places, place)
  local _, at, lasts = place:match('^(%d+)|(%d+)|(%d+)|')
  if not free_at or tonumber(free_at) < at + lasts + UNANSWERED then return end  -- or it was answered before
  local took = math.max(now - at, 0)
  local l = redis.call('HMGET', limiter, 'least', 'next_least', 'least_at')
  local least, next_least = tonumber(l[1] or '0'), math.min(tonumber(l[2] or took), took)
  if now - tonumber(l[3] or digits(now)) >= 30000000 then
    least, next_least = next_least, took
    redis.call('HSET', limiter, 'least_at', digits(now))
  elseif not l[3] then
    redis.call('HSET', limiter, 'least_at', digits(now))
  end
  redis.call('HSET', limiter, 'least', digits(least), 'next_least', digits(next_least))
  redis.call('ZADD', places, 'XX', digits(now - math.min(least, next_least) / 4 + lasts), place)
end

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

-- Recipients that SES accepted, by tenths of an hour, a day long: they tell when how much of the 24 h quota comes free.
local function remember_sent(history, n, now)
  local slot = math.floor(now / 360000)
  if redis.call('HINCRBY', history, digits(slot), digits(n)) == tonumber(n) then
    for _, old in ipairs(redis.call('HKEYS', history)) do
      if tonumber(old) < slot - 241 then redis.call('HDEL', history, old) end
    end
  end
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

-- How a recipient came to be bounced or complained, `Manner` of scripts.py: `b<position>` of the details, where it is not '-'.
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
-- `keys` are those of lease.lua and settle.lua: container, chunk, records, window, details, message ids, payload, due, doubt.
-- Returns 1 when the chunk is closed, and 1 when the container is finished by this.
local function close_what_is_over(keys, chunk_id, now)
  local container, chunk, window, due = keys[1], keys[2], keys[4], keys[8]
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
    for i = 1, 7 do redis.call('EXPIRE', keys[i], c[4]) end
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

-- ---- message ids of SES, for notifications that carry no tag of ours: `sent_ids.py` -------------------------------------------

local MARK = 7          -- bytes of an id's digest
local NO_MARK = string.rep('\0', MARK)
local CHUNK_ENTRY = 10  -- five bytes of the mark, the number of a chunk among the day's (3), position (2)
local MESSAGE_ENTRY = 23  -- five bytes of the mark, the id of a message without its `m`

-- The key of the day's entries that have the same first bytes as the mark at `i`; the mark's other bytes.
local function ids_key(prefix, day, kind, marks, i)
  local high, low = marks:byte(i, i + 1)
  return prefix .. day .. ':' .. kind .. string.format('%03x', high % 16 * 256 + low), marks:sub(i + 2, i + MARK - 1)
end

-- `marks`: a mark and a position (2) for each recipient of the chunk that SES has accepted.
local function note_ids(prefix, life, chunk, chunk_id, marks, now)
  local day = digits(math.floor(now / 86400000))
  local kind, place = 'm', chunk_id:match('^m(' .. string.rep('%w', 18) .. ')%-0$')
  if not place then
    local known = redis.call('HGET', chunk, 'noted') or ''
    local number = tonumber(known:match('^' .. day .. ':(%d+)$'))
    if not number then
      number = redis.call('HINCRBY', prefix .. day, 'n', '1')
      redis.call('HSET', prefix .. day, digits(number), chunk_id)
      if number == 1 then redis.call('EXPIRE', prefix .. day, life) end
      if redis.call('EXISTS', chunk) == 1 then redis.call('HSET', chunk, 'noted', day .. ':' .. digits(number)) end
    end
    kind, place = 'c', struct.pack('>I4', number):sub(2)
  end
  for i = 1, #marks, MARK + 2 do
    local key, rest = ids_key(prefix, day, kind, marks, i)
    local at = redis.call('STRLEN', key)
    redis.call('SETRANGE', key, digits(at), rest .. place .. (kind == 'c' and marks:sub(i + MARK, i + MARK + 1) or ''))
    if at == 0 then redis.call('EXPIRE', key, life) end
  end
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
  local container, chunk, window, due = keys[1], keys[2], keys[4], keys[8]
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
  for i = 1, 7 do redis.call('PERSIST', keys[i]) end
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
    redis.call('HINCRBY', keys[2], 'open', digits(n))
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

-- ---- what is held because SES refuses it ------------------------------------------------------------------------------
-- A hash with `until`, before which nothing of it is tried; `pause`, `reason`; `tried`: somebody has the turn to try one.

-- Hold it, or hold it on after one more was refused: for twice as long. Those that were under way together are one refusal.
local function hold_back(key, reason, first, longest, now)
  local h = redis.call('HMGET', key, 'until', 'pause', 'tried')
  local ends, pause = tonumber(h[1] or '0'), tonumber(h[2] or '0')
  if pause == 0 or h[3] then
    pause = pause == 0 and first or math.min(pause * 2, longest)
    ends = now + pause
    redis.call('HSET', key, 'until', digits(ends), 'pause', digits(pause))
    redis.call('HDEL', key, 'tried')
  end
  redis.call('HSET', key, 'reason', reason)
  return math.max(ends - now, 1)
end

-- How long nothing of these may be tried (ms), and why. 0: it is not held, or it is the caller's turn to try one; then 1 behind.
local function held_back(keys, now)
  local turn = 0
  for _, key in ipairs(keys) do
    local h = redis.call('HMGET', key, 'until', 'reason', 'pause')
    if h[1] then
      local left = tonumber(h[1]) - now
      if left > 0 and left <= tonumber(h[3]) then return left, h[2], 0 end  -- longer: the clock was set back
      turn = 1
    end
  end
  if turn == 1 then
    for _, key in ipairs(keys) do
      local pause = redis.call('HGET', key, 'pause')
      if pause then redis.call('HSET', key, 'until', digits(now + pause), 'tried', '1') end
    end
  end
  return 0, '', turn
end
