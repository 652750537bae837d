-- Another spec for a campaign, in place of the one that was read. What is leased goes on with the one it was leased with.
-- KEYS: container
-- ARGV: the spec that was read, the new one
-- Returns 1 where it is the new one now; 0 where it is another by now, or the campaign is gone. May be repeated.
local spec = redis.call('HGET', container, 'spec')
if spec == ARGV[1] then redis.call('HSET', container, 'spec', ARGV[2]) end
return (spec == ARGV[1] or spec == ARGV[2]) and 1 or 0
