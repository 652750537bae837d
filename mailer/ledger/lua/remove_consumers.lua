-- Consumers of a group that have not been heard of for so long, and hold nothing, are removed from it.
-- KEYS: stream
-- ARGV: group, milliseconds
-- Returns how many.
local group, idle_ms = ARGV[1], tonumber(ARGV[2])
local consumers, removed = redis.pcall('XINFO', 'CONSUMERS', stream, group), 0
if consumers.err then return 0 end  -- there is no such stream or group yet
for _, fields in ipairs(consumers) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle >= idle_ms then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    removed = removed + 1
  end
end
return removed
