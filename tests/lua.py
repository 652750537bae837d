"""Lua for the scripts of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from mailer.redis.scripts import CLOCK, texts

# Servers differ in what they make of a number that a script hands them: see numbers.lua. The tests' scripts are refused one.
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
    return _STRICT + FILES[CLOCK]


def numbers() -> str:
    return FILES["mailer/redis/lua/lib/numbers.lua"]


def scripts() -> dict[str, str]:
    """Name → text of each script of all rooms, without a clock."""
    return {name: text for room in ROOMS for name, text in texts(room).items()}


def _files() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        folder = files(room) / "lua"
        for path in [*folder.iterdir(), *((folder / "lib").iterdir() if (folder / "lib").is_dir() else ())]:
            if path.name.endswith(".lua"):
                yield str(path).rpartition("/mailer/")[2], path.read_text()


ROOMS = [
    f"mailer.{room.name}" for room in sorted(files("mailer").iterdir(), key=lambda room: room.name) if (room / "lua").is_dir()
]
FILES = {f"mailer/{path}": text for path, text in _files()}  # by path
