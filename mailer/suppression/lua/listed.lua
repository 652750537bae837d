-- Entries that SES has. Each gets the mark of the present generation, so that a full pass can tell what SES has no more.
-- KEYS: bits, ses, turn, removed
-- ARGV: whose turn it is ('' for a single entry that was just put there), how long it lasts (ms); then for each:
--       place, address, letter of the reason and time (ms), which letters of SES's spelling are capitals (hexadecimal)
-- Returns how many are new; -1 where it is not their turn any more.
-- include mailer/suppression/lua/lib/buckets.lua
local owner = ARGV[1]
if owner ~= '' then
  if redis.call('GET', turn) ~= owner then return -1 end
  redis.call('PEXPIRE', turn, ARGV[2])
end
local mark = '.' .. (redis.call('HGET', ses, 'generation') or '0') .. '.'
local any_removed, added = redis.call('EXISTS', removed) == 1, 0
for i = 3, #ARGV, 4 do
  local place, address, head, capitals = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local skip = false
  if any_removed and owner == '' then
    redis.call('HDEL', removed, address)
  elseif any_removed then
    skip = tonumber(head:sub(2)) <= tonumber(redis.call('HGET', removed, address) or '0')
  end
  if not skip then
    local key = ses .. bucket(place)
    local before = redis.call('HGET', key, address) or ''
    local items, new = {head .. mark .. capitals}, 1
    for item, c in before:gmatch('(%a%d+%.%d+%.(%x*))') do
      if c == capitals then new = 0 else items[#items + 1] = item end
    end
    local after = table.concat(items, ' ')
    if after ~= before then
      redis.call('HSET', key, address, after)
      redis.call('SETBIT', bits, place, '1')
    end
    added = added + new
  end
end
redis.call('HINCRBY', ses, 'entries', digits(added))
return added
