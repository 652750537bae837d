-- What the gate has to know of a sender, in one look: its account, its identities, and the configuration set that holds.
-- What is used of that is marked, so that it is read again with every refresh.
-- KEYS: account, identities, in_use, ...
--       ...: what it may be held by
-- ARGV: oldest account state that is believed (ms), prefix of the configuration sets' keys, set that the message names or '',
--       how many of the names may give a default set, names (in lower case; the From identity's first, the most special first)
-- Returns {now (ms), believed, production, suppressed reasons, listed at or nil, set or '', {the set's fields}, {the names' values},
-- how long it is held (ms), why, 1 where it is the caller's turn to try one all the same}
-- include mailer/ledger/lua/lib/holds.lua
local oldest, prefix, set, from = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()

local function mark(member)
  if now - tonumber(redis.call('ZSCORE', in_use, member) or '0') >= 60000 then
    redis.call('ZADD', in_use, digits(now), member)
    redis.call('EXPIRE', in_use, '7200')
  end
end

local a = redis.call('HMGET', account, 'refreshed_at', 'production', 'suppressed_reasons', 'doubted')
local believed = a[1] and not a[4] and now - tonumber(a[1]) <= oldest

local values = redis.call('HMGET', identities, 'listed_at', unpack(ARGV, 5))
local listed_at = table.remove(values, 1)
for i = 1, from do
  -- A value is `verified|looked up at|default configuration set|name as SES spells it`.
  local default = values[i] and values[i]:match('^1|%d*|([^|]*)|')
  if default then
    mark('i' .. ARGV[4 + i])
    if set == '' then set = default end
  end
end

local state = {}
if set ~= '' then
  mark('s' .. set)
  state = redis.call('HMGET', prefix .. set, 'enabled', 'reasons', 'gone')
end
local left, why, turn = 0, '', 0
if believed then left, why, turn = held_back({unpack(KEYS, 4)}, now) end
return {now, believed and 1 or 0, a[2] or '', a[3] or '', listed_at, set, state, values, left, why, turn}
