-- Add entries of our own. What is there already keeps its time.
-- KEYS: bits, own
-- ARGV: for each: place, address, letter of the reason, stream (quoted), since (s) or '' for now
-- Returns for each 1 where it is new, 0 where it was there.
-- include mailer/suppression/lua/lib/buckets.lua
local now, new, added = digits(math.floor(now_ms() / 1000)), {}, 0
for i = 1, #ARGV, 5 do
  local place, address, letter, stream, since = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local key = own .. bucket(place)
  local items, there = redis.call('HGET', key, address) or '', 0
  for l, s in items:gmatch('(%a)%d+:(%S*)') do
    if l == letter and s == stream then there = 1 end
  end
  if there == 0 then
    local item = letter .. (since == '' and now or since) .. ':' .. stream
    redis.call('HSET', key, address, items == '' and item or items .. ' ' .. item)
    redis.call('SETBIT', bits, place, '1')
    added = added + 1
  end
  new[#new + 1] = 1 - there
end
redis.call('HINCRBY', own, 'entries', digits(added))
return new
