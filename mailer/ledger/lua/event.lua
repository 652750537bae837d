-- Apply what SES's events say of recipients of one chunk. Events come late, early, twice and in any order: what counts is how
-- strong a state is (RANK), and SES's message id, which tells whether a recipient was sent to once or twice.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes
-- ARGV: chunk id; packed rows: position (2), attempt (2), state (1), manner (1); message ids, 27 bytes a row (zeros: see below);
--       then pairs: row -> reason, `i<row>` -> a message id that does not have SES's usual form
-- Returns {1 where the chunk is known, recipients found to be sent to twice, position, old state and new state, ...}
-- include mailer/ledger/lua/lib/common.lua
local chunk_id, rows, packed_ids = unpack(ARGV, 1, 3)
local now = now_ms()
local size = redis.call('STRLEN', records) / RECORD
if size == 0 or redis.call('EXISTS', container) == 0 then return {0, 0} end

-- By state and manner (`work.py`). A notice that names no failure says less than a delivery; a bounce for good says more than
-- one that may not last, and than one of a message that SES did not try to deliver.
local RANK = {['s-'] = 1, sw = 1, ['r-'] = 2, ['f-'] = 2, bn = 3, ['d-'] = 4, bx = 5, bs = 6, ['b-'] = 7, mx = 8, ['m-'] = 9}
local said = {}
for i = 4, #ARGV, 2 do said[ARGV[i]] = ARGV[i + 1] end
local moves, opened, doubtful, twice, answered = {}, 0, 0, 0, 0
local out = {1, 0}

-- Whether the event's state takes the place of what is known. What SES accepted and did not send (r, f) counts only for the
-- attempt that is the last: the others were followed by another one, which decides. A later attempt than the last is one that
-- Redis has forgotten with its last second: SES has the message, so what it says of it holds also where nobody is sending.
local function stronger(was, had, state, manner, known, id, attempt, attempts)
  if was == 'u' then return false end
  if state == 'r' or state == 'f' then
    local tried = was == 'c' or was == 'k' or was == 's' or (was == 'q' and attempt > attempts)
    return tried and attempt >= attempts and (not known or known == id)
  end
  -- `rejected` and `failed` without a message id are our own words, about a call that SES seemed to refuse.
  local rank = RANK[was .. had] or 0
  if (was == 'r' or was == 'f') and not known then rank = 0 end
  return RANK[state .. manner] > rank
end

-- Why SES is still trying to deliver it: `w<position>` of the details, for as long as it is `sent`. Its container counts them.
local function note_delay(position, was, state, attempts, why)
  if state == 's' and why and redis.call('HSETNX', details, 'w' .. position, why) == 1 then
    redis.call('HINCRBY', container, 'delayed', '1')
    publish(outcomes, chunk_id, position, state, attempts, why)
  elseif was == 's' and state ~= 's' and redis.call('HDEL', details, 'w' .. position) == 1 then
    redis.call('HINCRBY', container, 'delayed', '-1')
  end
end

for i = 1, #rows, 6 do
  local position, attempt = struct.unpack('>HH', rows, i)
  local state, manner, row = rows:sub(i + 4, i + 4), rows:sub(i + 5, i + 5), (i - 1) / 6
  local unsent = state == 'r' or state == 'f'
  if position < size and attempt > 0 then
    local at = position * RECORD
    local all = redis.call('GETRANGE', records, digits(at), digits(at + RECORD - 1))
    local was, mode, failures, attempts = all:sub(1, 1), all:sub(2, 2), struct.unpack('>BH', all, 3)
    local known = known_id(ids, details, position)
    local id = said['i' .. row] or packed_ids:sub(row * MESSAGE_ID + 1, (row + 1) * MESSAGE_ID)
    -- `x`: up to this attempt SES accepted it and did not send it, and somebody wants it sent again.
    local again = redis.call('HGET', details, 'x' .. position)
    if not (again and attempt <= tonumber(again) and (unsent or state == 's')) then
      local had = manner_of(details, was, position)
      local applies = stronger(was, had, state, manner, known, id, attempt, attempts)
      if known and known ~= id then
        if not unsent then  -- else it was not sent under this id
          twice = twice + note_duplicate(container, details, position, id)
        end
      elseif not known and was ~= 'u' then
        -- Where a later attempt is under way the reject of an earlier one means nothing, nor does its id.
        if applies or not unsent then store_id(ids, details, records, position, id) end
      end
      if applies then
        redis.call('SETRANGE', records, digits(at), record(state, mode, failures, math.max(attempts, attempt), now))
        moves[was .. state] = (moves[was .. state] or 0) + 1
        change_manner(container, details, position, was .. had, state .. (manner == 'w' and '-' or manner))
        if was == 'k' then
          doubtful = doubtful - 1
          redis.call('HDEL', details, 'k' .. position)  -- of lease.lua
        end
        if is_open(was) then opened = opened - 1 end
        if was == 'c' then
          -- The answer of this attempt is yet to come, and what it means for the quota: settle.lua looks for this.
          redis.call('HSET', details, 'e' .. position, digits(attempts))
          answered = answered + 1
        end
        local reason = manner ~= 'w' and said[tostring(row)]
        move_why(container, details, chunk_id, position, was, state, reason)
        if reason then
          redis.call('HSET', details, digits(position), reason)
        elseif was ~= 's' then
          redis.call('HDEL', details, digits(position))
        end
        publish(outcomes, chunk_id, position, state, math.max(attempts, attempt), reason)
        out[#out + 1] = position
        out[#out + 1] = was
        out[#out + 1] = state
      end
      note_delay(position, was, applies and state or was, math.max(attempts, attempt), manner == 'w' and said[tostring(row)])
    end
  end
end

out[2] = twice
count_moves(container, moves)
change_doubt(chunk, doubt, chunk_id, doubtful, now)
forget_with(records, ids, details)
note_accepted(container, answered, now)
if opened ~= 0 then
  redis.call('HINCRBY', chunk, 'open', digits(opened))
  close_what_is_over(keys, chunk_id, now)
end
if doubtful ~= 0 then decided(container, now) end
return out
