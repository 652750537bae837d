-- Whose message ids these are.
-- ARGV: key prefix of the index, marks (7 bytes each), then the days that are looked through
-- Returns for each mark the id of a recipient, or '' where it is not noted. O(marks * days * size of a string of the index)
-- include mailer/ledger/lua/lib/sent_ids.lua
local prefix, marks = ARGV[1], ARGV[2]

local function entry(key, rest, length)
  local all, from = redis.call('GET', key) or '', 1
  while true do
    local at = all:find(rest, from, true)
    if not at then return nil end
    if (at - 1) % length == 0 then return all:sub(at + #rest, at + length - 1) end
    from = at + 1
  end
end

local function place(day, i)
  local key, rest = ids_key(prefix, day, 'm', marks, i)
  local found = entry(key, rest, MESSAGE_ENTRY)
  if found then return 'm' .. found .. '-0-0' end
  found = entry(ids_key(prefix, day, 'c', marks, i), rest, CHUNK_ENTRY)
  if not found then return nil end
  local number, position = struct.unpack('>I4H', '\0' .. found)
  local chunk_id = redis.call('HGET', prefix .. day, digits(number))
  return chunk_id and chunk_id .. '-' .. digits(position)
end

local out = {}
for i = 1, #marks, MARK do
  local found = nil
  for n = 3, #ARGV do found = found or place(ARGV[n], i) end
  out[#out + 1] = found or ''
end
return out
