-- include mailer/ledger/lua/lib/common.lua

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
