-- The time of all scripts, in ms.
-- include mailer/redis/lua/lib/numbers.lua
return now_ms()
