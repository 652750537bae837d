-- include mailer/redis/lua/lib/numbers.lua

-- The bucket of an address, by its place among the bits of the suppression tables.
local function bucket(place)
  return string.format(':%04x', place % 65536)
end
