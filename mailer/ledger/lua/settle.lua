-- Persist what became of claimed recipients. It does not ask for the lease: a recipient is told by its attempt number, so
-- the holder of a lost lease may still say what it learnt, and saying it twice changes nothing.
-- KEYS: container, chunk, records, window, details, ids, payload, due, doubt, outcomes, account, limiter, places, history, active
-- ARGV: chunk id, recipients of SES calls that were answered, of them those that SES accepted, their place in the rate or '',
--       packed rows: position (2), attempt (2), state (1), failures to add (1); message ids, 27 bytes a row (zeros: none);
--       marks of the same, 7 bytes a row, or '' where they are not to be noted; key prefix of the index, its life (s);
--       then pairs field, value for the details
-- Returns {late, chunk closed, container finished, recipients found to be sent to twice}: `late` rows were settled before, by
-- somebody who knew as much. A row whose event came before the answer is not late: what the answer counts is counted here.
-- include mailer/ledger/lua/lib/sent_ids.lua
-- include mailer/quota/lua/lib/places.lua
local chunk_id, answered, accepted, place, rows, packed_ids, marks = unpack(ARGV, 1, 7)
local now = now_ms()
answer_place(limiter, places, place, now_us())
local all, container_state = redis.call('GET', records), redis.call('HGET', container, 'state')
if not all or not container_state then  -- chunks outlive their campaign a little
  return {#rows / 6, 0, 0, 0}
end

local moves, opened, doubtful, late, sent, twice = {}, 0, 0, 0, 0, 0
local first, run = nil, {}   -- consecutive message ids are written at once
local said, noted = {}, {}
for i = 10, #ARGV, 2 do said[ARGV[i]] = ARGV[i + 1] end

local function write_run()
  if first then
    redis.call('SETRANGE', ids, digits(first * MESSAGE_ID), table.concat(run))
    first, run = nil, {}
  end
end

-- Whether a row says something new. Nearly always it is the answer to the claim that is stored.
local function is_news(was, state, position, attempt, attempts)
  if was == 'c' and attempt == attempts then return true end
  if state == 's' then
    -- SES has it, whichever attempt that was: as an event would say. See event.lua for `x`.
    if was == 'u' or was == 's' or was == 'd' or was == 'b' or was == 'm' or attempt == 0 then return false end
    return attempt > tonumber(redis.call('HGET', details, 'x' .. position) or '0') and not known_id(ids, details, position)
  end
  -- A recipient may also be settled without a claim, when it was not handed to SES: its data did not fit the template. An
  -- attempt above the last is one that Redis has forgotten with its last second: the answer is all that is left of it.
  local forgotten = attempt > attempts
  return (forgotten or attempt == attempts) and was ~= state and
    (was == 'c' or was == 'k' or (was == 'q' and (forgotten or state ~= 'k')))
end

local function note(row, position)
  local mark = marks:sub(row * MARK + 1, (row + 1) * MARK)
  if mark ~= '' and mark ~= NO_MARK then noted[#noted + 1] = mark .. struct.pack('>H', position) end
end

local cancelled = container_state == 'cancelled'
for i = 1, #rows, 6 do
  local position, attempt = struct.unpack('>HH', rows, i)
  local state, more = rows:sub(i + 4, i + 4), rows:byte(i + 5)
  if state == 'q' and cancelled then state = 'n' end  -- it is not tried again; count_out.lua may have been here already
  local at = position * RECORD
  local was, mode, failures, attempts = all:sub(at + 1, at + 1), all:sub(at + 2, at + 2), struct.unpack('>BH', all, at + 3)
  if is_news(was, state, position, attempt, attempts) then
    local latest = math.max(attempts, attempt)
    redis.call('SETRANGE', records, digits(at), record(state, mode, math.min(failures + more, 255), latest, now))
    moves[was .. state] = (moves[was .. state] or 0) + 1
    if state == 'k' then doubtful = doubtful + 1 end
    if was == 'k' then
      doubtful = doubtful - 1
      redis.call('HDEL', details, 'k' .. position)  -- of lease.lua
    end
    if is_open(was) and not is_open(state) then opened = opened - 1 end
    if is_open(state) and not is_open(was) then opened = opened + 1 end
    move_why(container, details, chunk_id, position, was, state, said[tostring(position)])
    if said[tostring(position)] then
      redis.call('HSET', details, digits(position), said[tostring(position)])
    else
      redis.call('HDEL', details, digits(position))
    end
    if said['i' .. position] then redis.call('HSET', details, 'i' .. position, said['i' .. position]) end
    if was == 'c' and attempt < attempts then  -- as an event does
      redis.call('HSET', details, 'e' .. position, digits(attempts))
    end
    if state == 's' then
      sent = sent + 1
      local n = (i - 1) / 6
      note(n, position)
      local id = packed_ids:sub(n * MESSAGE_ID + 1, (n + 1) * MESSAGE_ID)
      if id ~= NO_ID then
        if sent == 1 and redis.call('EXISTS', ids) == 0 then
          -- At full length at once: growing it bit by bit would make Redis reserve twice the room.
          redis.call('SETRANGE', ids, digits(#all / RECORD * MESSAGE_ID - 1), '\0')
        end
        if first and position ~= first + #run then write_run() end
        first = first or position
        run[#run + 1] = id
      end
    end
    if state ~= 'q' then publish(outcomes, chunk_id, position, state, latest, said[tostring(position)]) end
  else
    local n = (i - 1) / 6
    local id = said['i' .. position] or packed_ids:sub(n * MESSAGE_ID + 1, (n + 1) * MESSAGE_ID)
    if state == 's' and id ~= NO_ID and was ~= 'u' and
      attempt > tonumber(redis.call('HGET', details, 'x' .. position) or '0') then
      local known = known_id(ids, details, position)
      if known ~= id then note(n, position) end
      if not known then
        store_id(ids, details, records, position, id)  -- it was taken for sent
      elseif known ~= id then
        twice = twice + note_duplicate(container, details, position, id)
      end
    end
    if redis.call('HGET', details, 'e' .. position) == tostring(attempt) then
      redis.call('HDEL', details, 'e' .. position)  -- the event was faster than the answer; it has said the same, or more
    else
      late = late + 1
    end
  end
end
write_run()
if #noted > 0 then note_ids(ARGV[8], ARGV[9], chunk, chunk_id, table.concat(noted), now) end
forget_with(records, ids, details)

if answered ~= '0' and late < #rows / 6 then  -- else it was said before
  redis.call('HINCRBY', account, 'answered', answered)
  if accepted ~= '0' then remember_sent(history, accepted, now) end
end
count_moves(container, moves)
change_doubt(chunk, doubt, chunk_id, doubtful, now)
change_open(keys, active, chunk_id, opened, now)
note_accepted(container, sent, now)
local closed, finished = close_what_is_over(keys, chunk_id, now)
return {late, closed, finished, twice}
