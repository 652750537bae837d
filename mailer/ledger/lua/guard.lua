-- Pause a campaign when too many of its e-mails have bounced, or too many of its recipients complained. One that is paused for
-- another reason gets this one, so that whoever resumes it knows.
-- KEYS: container
-- Returns the reason, where this call found it, or ''.
-- include mailer/ledger/lua/lib/common.lua
local c = redis.call('HMGET', container, 'state', 'guarded', 'max_bounce', 'max_complaint', 'guard_after', 'id',
                     'g:known', 'g:bounced', 'g:delivered', 'g:complained')
if c[2] or not c[5] or (c[1] ~= 'running' and c[1] ~= 'parked' and c[1] ~= 'paused') then
  return ''
end
local LEAST_COMPLAINTS = 3  -- one or two say nothing of a list, and are more than 0.1 % of any with fewer than 2,000 delivered
local known, bounced, delivered, complained = judged(container)
-- What a guard has paused for before, and somebody resumed, is not judged again.
known, bounced = known - (c[7] or 0), bounced - (c[8] or 0)
delivered, complained = delivered - (c[9] or 0), complained - (c[10] or 0)

local function passed(bad, of, limit, what)
  if of < tonumber(c[5]) or of <= 0 or bad / of <= tonumber(limit) then
    return ''
  end
  local percent = bad / of * 100
  return string.format('paused by its guard: %d of %d e-mails %s, %s %%, and its limit is %.4g %%; look into the list, then: ' ..
                       'mailer campaign resume %s', bad, of, what,
                       string.format(percent >= 1 and '%.1f' or '%.2g', percent), tonumber(limit) * 100, c[6])
end

local reason = passed(bounced, known, c[3], 'bounced')
if reason == '' and complained >= LEAST_COMPLAINTS then
  reason = passed(complained, delivered, c[4], 'were complained about')
end
if reason ~= '' then
  redis.call('HSET', container, 'state', 'paused', 'reason', reason, 'guarded', '1')
  stand_still(container, now_ms())
end
return reason
