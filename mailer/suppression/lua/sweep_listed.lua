-- After a full pass: remove what it has not seen from some of the buckets.
-- KEYS: ses, turn
-- ARGV: whose turn it is, how long it lasts (ms), first bucket, how many
-- Returns how many entries were removed; -1 where it is not their turn any more.
-- include mailer/suppression/lua/lib/buckets.lua
if redis.call('GET', turn) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', turn, ARGV[2])
local generation, first, gone = redis.call('HGET', ses, 'generation'), tonumber(ARGV[3]), 0
for number = first, first + tonumber(ARGV[4]) - 1 do
  local key = ses .. bucket(number)
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local stay, n = {}, 0
    for item, mark in all[i + 1]:gmatch('(%a%d+%.(%d+)%.%x*)') do
      n = n + 1
      if mark == generation then stay[#stay + 1] = item end
    end
    if #stay == 0 then
      redis.call('HDEL', key, all[i])
    elseif #stay < n then
      redis.call('HSET', key, all[i], table.concat(stay, ' '))
    end
    gone = gone + n - #stay
  end
end
redis.call('HINCRBY', ses, 'entries', digits(-gone))
redis.call('HSET', ses, 'sweep', digits(first + tonumber(ARGV[4])))
return gone
