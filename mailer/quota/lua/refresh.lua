-- Store what GetAccount said. What had been answered by SES before it was asked is in its count; what was on its way, and what
-- was admitted since, is not.
-- KEYS: account
-- ARGV: `answered` before it was asked, then pairs field, value
-- A call whose answer is never counted (its worker died) is taken for counted once a whole refresh has passed over it, and
-- never sooner than a minute.
-- include mailer/redis/lua/lib/numbers.lua
local now = now_ms()
local a = redis.call('HMGET', account, 'admitted', 'answered', 'before', 'before_at')
local admitted, answered, base = tonumber(a[1] or '0'), tonumber(a[2] or '0'), tonumber(ARGV[1])
local before_at = tonumber(a[4] or '0')
if now - before_at >= 60000 then
  if before_at > 0 then
    base = math.max(base, tonumber(a[3]))
    answered = math.max(answered, base)
  end
  redis.call('HSET', account, 'before', digits(admitted), 'before_at', digits(now))
end
base, answered = math.min(base, admitted), math.min(answered, admitted)  -- a settle that came after all counted twice
redis.call('HDEL', account, 'daily_refused', 'doubted')
redis.call('HSET', account, 'base', digits(base), 'answered', digits(answered), 'refreshed_at', digits(now), 'trouble', '',
           unpack(ARGV, 2))
redis.call('DEL', account .. ':refreshing')
return 1
