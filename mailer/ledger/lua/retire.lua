-- Let some chunks of a campaign that is over be forgotten after a while; with the last of them, the campaign.
-- KEYS: container, window, active, tokens, ...
--       ...: the keys of chunks
-- ARGV: id, how long its chunks are kept (s), how long the campaign is known (s), 1 with the last of them
-- Returns 0, with nothing done, where it is not over (any more).
-- include mailer/ledger/lua/lib/common.lua
if not is_over(container) then
  return 0
end
if redis.call('EXISTS', container) == 1 then
  redis.call('HINCRBY', container, 'retired', '1')
end
for i = 4, #KEYS do
  redis.call('EXPIRE', KEYS[i], ARGV[2])
end
if ARGV[4] == '1' then
  redis.call('EXPIRE', container, ARGV[3])
  redis.call('EXPIRE', window, ARGV[2])
  redis.call('ZREM', active, ARGV[1])
end
return 1
