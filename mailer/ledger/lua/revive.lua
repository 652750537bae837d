-- Take back what retire.lua did to some chunks of a campaign that goes on.
-- KEYS: container, tokens, ...
--       ...: the keys of chunks
-- ARGV: `retired` when this was begun, 1 with the last of them
-- Returns 0, with nothing done, where it is over.
-- include mailer/ledger/lua/lib/common.lua
if is_over(container) then
  return 0
end
for i = 2, #KEYS do
  redis.call('PERSIST', KEYS[i])
end
if ARGV[2] == '1' and redis.call('HGET', container, 'retired') == ARGV[1] then
  redis.call('HDEL', container, 'retired')
end
return 1
