-- SES refuses recipients of a campaign for a reason that may hold for all: shall they be given up, or be tried once more?
-- Whoever is refused the first time is tried again, after the others. `limit` different recipients refused alike, and nobody
-- accepted since the first of them, hold the campaign: one at a time is tried then, until one is accepted.
-- KEYS: container, key
-- ARGV: what is alike, '1' where SES accepted others at the same time, limit, tries, first and longest pause (ms), reason, then pairs
--       recipient, attempt
-- Returns {pause until the next is tried (ms), 0: it is not held; the most tries of any of them; then for each 1: give it up}.
-- Doing it twice changes nothing but that a recipient that was to be given up is tried once more.
-- include mailer/ledger/lua/lib/holds.lua
local what, others, limit, most, first, longest, reason = unpack(ARGV, 1, 7)
limit, most = tonumber(limit), tonumber(most)
local now = now_ms()
local c = redis.call('HMGET', container, 'settled', 'n:q', 'n:c')
local a = redis.call('HMGET', key, 'what', 'since', 'n', 'marks')
local accepted_at = others == '1' and now or tonumber(c[1] or '0')
local since, n, marks = tonumber(a[2] or '0'), tonumber(a[3] or '0'), tonumber(a[4] or '0')
if a[1] ~= what or accepted_at >= since then since, n = now, 0 end

local seen, tried = {}, 0
for i = 8, #ARGV, 2 do
  local recipient, attempt = ARGV[i], ARGV[i + 1]
  local was = redis.call('HGET', key, 'm' .. recipient)
  -- A mark is `attempt|tries|when (ms)|what`.
  local marked, tries, at, before = (was or ''):match('^(%d+)|(%d+)|(%d+)|(.*)$')
  if not was then marks = marks + 1 end
  if before ~= what then tries, at = '0', '0' end
  tries, at = tonumber(tries), tonumber(at)
  if tries == 0 then n = n + 1 end  -- whom it refused before, it may refuse again for their own sake
  if marked ~= attempt then tries = tries + 1 end
  redis.call('HSET', key, 'm' .. recipient, string.format('%s|%d|%.0f|%s', attempt, tries, now, what))
  seen[#seen + 1] = {recipient, tries, at}
  tried = math.max(tried, tries)
end
if others == '1' then n = 0 end

local out = {0, tried}
local fresh = tonumber(c[2] or '0') + tonumber(c[3] or '0') > marks  -- there are some whom SES has not refused yet
for _, one in ipairs(seen) do
  local recipient, tries, at = unpack(one)
  local give_up = n < limit and tries > 1 and (at <= accepted_at or not fresh or tries >= most)
  if give_up then
    redis.call('HDEL', key, 'm' .. recipient)
    marks = marks - 1
  end
  out[#out + 1] = give_up and 1 or 0
end
redis.call('HSET', key, 'what', what, 'since', digits(since), 'n', digits(n), 'marks', digits(marks))
if n >= limit then out[1] = hold_back(key, reason, tonumber(first), tonumber(longest), now) end
redis.call('EXPIRE', key, '86400')
return out
