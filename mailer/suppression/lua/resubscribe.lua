-- Take back an unsubscription that is young. What is there for another reason, or for longer, stays.
-- KEYS: own
-- ARGV: place, address, stream (quoted), its greatest age (s)
-- Returns how many entries were taken back: 1 or 0.
-- include mailer/suppression/lua/lib/buckets.lua
local address, stream = ARGV[2], ARGV[3]
local key, oldest = own .. bucket(ARGV[1]), math.floor(now_ms() / 1000) - tonumber(ARGV[4])
local stay, gone = {}, 0
for item, letter, since, s in (redis.call('HGET', key, address) or ''):gmatch('((%a)(%d+):(%S*))') do
  if letter == 'u' and s == stream and tonumber(since) >= oldest then
    gone = gone + 1
  else
    stay[#stay + 1] = item
  end
end
if gone > 0 then
  if #stay > 0 then
    redis.call('HSET', key, address, table.concat(stay, ' '))
  else
    redis.call('HDEL', key, address)
  end
  redis.call('HINCRBY', own, 'entries', digits(-gone))
end
return gone
