-- Numbers in scripts, and the time in ms. Time is clock.lua's, which stands before every script.

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- Redis is handed texts only, and a number becomes one here. Lua itself writes 1.7e+12 for a large one and -0 for the negative of
-- none, which Redis 7.0 refuses.
local function digits(number)
  local text = string.format('%.0f', number)
  return text == '-0' and '0' or text
end

-- The same of a number that may have a fraction: all of it.
local function fraction(number)
  return number == math.floor(number) and digits(number) or string.format('%.17g', number)
end
