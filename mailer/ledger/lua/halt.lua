-- Change a container's state for a reason.
-- KEYS: container
-- ARGV: new state, reason, then the states it may be changed from
-- Returns the state afterwards.
-- include mailer/ledger/lua/lib/common.lua
local state = redis.call('HGET', container, 'state')
for i = 3, #ARGV do
  if state == ARGV[i] then
    redis.call('HSET', container, 'state', ARGV[1], 'reason', ARGV[2])
    stand_still(container, now_ms())
    return ARGV[1]
  end
end
return state or 'gone'
