-- SES refuses what a sender sends, though the account may send: the others of that sender wait, and one at a time is tried.
-- KEYS: held
-- ARGV: reason, first and longest pause (ms)   Returns the pause until the next is tried (ms).
-- include mailer/ledger/lua/lib/holds.lua
local pause = hold_back(held, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), now_ms())
redis.call('EXPIRE', held, '3600')
return pause
