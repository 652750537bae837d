-- The time of all scripts, in ms.
return now_ms()
