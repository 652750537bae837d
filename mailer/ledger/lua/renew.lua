-- Heartbeat of a lease.
-- KEYS: chunk, due
-- ARGV: chunk id, fence, lease (ms)   Returns 1, or 0 when the lease is lost.
-- include mailer/ledger/lua/lib/common.lua
if not held_until(chunk, ARGV[2]) then
  was_not_lost(chunk, ARGV[2])
  return 0
end
hold(chunk, due, ARGV[1], now_ms() + ARGV[3])
return 1
