"""Lua for the scripts of the tests."""

from __future__ import annotations

from importlib.resources import files

# Servers differ in what they make of a number that a script hands them: see common.lua. The tests' scripts are refused one.
_STRICT = """
local redis = setmetatable({}, {__index = redis})
for _, name in ipairs({'call', 'pcall'}) do
  local call = getmetatable(redis).__index[name]
  redis[name] = function(...)
    for i = 1, select('#', ...) do
      if type((select(i, ...))) ~= 'string' then error('handed to ' .. (...) .. ' as ' .. type((select(i, ...)))) end
    end
    return call(...)
  end
end
"""


def clock() -> str:
    """Redis's own, and redis.call takes nothing but texts."""
    return _STRICT + (files("mailer.ledger") / "lua" / "clock.lua").read_text()


def common() -> str:
    return (files("mailer.ledger") / "lua" / "common.lua").read_text()
