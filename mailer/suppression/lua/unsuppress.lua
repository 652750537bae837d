-- Remove entries of our own. The bits stay: another address may have the same one, and a bit too many costs a look-up.
-- KEYS: own
-- ARGV: for each: place, address, stream (quoted; '' is the entry for everything, '*' whatever there is)
-- Returns for each the items that were removed.
-- include mailer/suppression/lua/lib/buckets.lua
local gone, removed = {}, 0
for i = 1, #ARGV, 3 do
  local key, address, stream = own .. bucket(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local stay, go = {}, {}
  for item, s in (redis.call('HGET', key, address) or ''):gmatch('(%a%d+:(%S*))') do
    local to = (stream == '*' or s == stream) and go or stay
    to[#to + 1] = item
  end
  if #go > 0 then
    if #stay > 0 then
      redis.call('HSET', key, address, table.concat(stay, ' '))
    else
      redis.call('HDEL', key, address)
    end
    removed = removed + #go
  end
  gone[#gone + 1] = table.concat(go, ' ')
end
redis.call('HINCRBY', own, 'entries', digits(-removed))
return gone
