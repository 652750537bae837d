-- Who of a chunk is on a list, in one round trip. Nearly nobody is, so the bits are asked first, all in one command, and the
-- tables only about those that they know. Arguments are packed: one by one they cost more than the search.
-- KEYS: bits, own, ses
--       the last is left out where it does not matter
-- ARGV: how many, their places (4 bytes each, little-endian), where each ends (the same), the addresses one after the other
-- Returns {now (ms), what is known of SES's list as fields and values, hits}; a hit is number from 0, own items, SES's items.
-- include mailer/suppression/lua/lib/buckets.lua
local STEP = 1000  -- addresses a command; Lua's stack holds 8,000 arguments
local n, places, ends, addresses = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local hits = {}

local function look_up(i, place)
  local from = i == 0 and 0 or (struct.unpack('<I4', ends, 4 * i - 3))
  local address, name = addresses:sub(from + 1, (struct.unpack('<I4', ends, 4 * i + 1))), bucket(place)
  local ours = redis.call('HGET', own .. name, address)
  local theirs = ses and redis.call('HGET', ses .. name, address)
  if ours or theirs then
    hits[#hits + 1], hits[#hits + 2], hits[#hits + 3] = i, ours or '', theirs or ''
  end
end

-- Without bits either nothing is listed, or they were lost: the tables decide.
local blind = redis.call('STRLEN', bits) == 0
for first = 0, n - 1, STEP do
  local some = math.min(STEP, n - first)
  local at = {struct.unpack('<' .. ('I4'):rep(some), places, 4 * first + 1)}
  local get = {}
  for i = 1, some do
    local g = 3 * i
    get[g - 2], get[g - 1], get[g] = 'GET', 'u1', digits(at[i])
  end
  local known = not blind and redis.call('BITFIELD_RO', bits, unpack(get))
  for i = 1, some do
    if blind or known[i] == 1 then look_up(first + i - 1, at[i]) end
  end
end
return {digits(now_ms()), ses and redis.call('HGETALL', ses) or {}, hits}
