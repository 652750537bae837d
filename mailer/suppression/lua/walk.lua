-- All entries of some of a table's buckets.
-- KEYS: addresses
-- ARGV: first bucket, how many
-- Returns address, items; address, items; …
-- include mailer/suppression/lua/lib/buckets.lua
local found = {}
for number = tonumber(ARGV[1]), ARGV[1] + ARGV[2] - 1 do
  for _, part in ipairs(redis.call('HGETALL', addresses .. bucket(number))) do
    found[#found + 1] = part
  end
end
return found
