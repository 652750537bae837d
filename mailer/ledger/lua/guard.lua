-- Pause a campaign when too many of its e-mails have bounced, or too many of its recipients complained. One that is paused for
-- another reason gets this one, so that whoever resumes it knows.
-- KEYS: container   Returns the reason, where this call found it, or ''.
local container = KEYS[1]
local c = redis.call('HMGET', container, 'state', 'guarded', 'max_bounce', 'max_complaint', 'guard_after', 'n:d', 'n:b', 'n:m',
                     'g:d', 'g:b', 'g:m', 'id')
if c[2] or not c[5] or (c[1] ~= 'running' and c[1] ~= 'parked' and c[1] ~= 'paused') then
  return ''
end
local function since(n, before)
  return tonumber(n or '0') - tonumber(before or '0')
end

-- Who complained has got the e-mail. What was delivered may become a complaint, so neither is looked at alone.
local reached = since(c[6], c[9]) + since(c[8], c[11])
local bounced, complained = since(c[7], c[10]), since(c[8], c[11])

local function passed(bad, of, limit, what)
  if of < tonumber(c[5]) or of <= 0 or bad / of <= tonumber(limit) then
    return ''
  end
  local percent = bad / of * 100
  return string.format('paused by its guard: %d of %d e-mails %s, %s %%, and its limit is %.4g %%; look into the list, then: ' ..
                       'mailer campaign resume %s', bad, of, what,
                       string.format(percent >= 1 and '%.1f' or '%.2g', percent), tonumber(limit) * 100, c[12])
end

local reason = passed(bounced, reached + bounced, c[3], 'bounced')
if reason == '' then
  reason = passed(complained, reached, c[4], 'were complained about')
end
if reason ~= '' then
  redis.call('HSET', container, 'state', 'paused', 'reason', reason, 'guarded', '1')
  stand_still(container, now_ms())
end
return reason
