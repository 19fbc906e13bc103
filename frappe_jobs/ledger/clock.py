"""The time by Redis's clock, which is one for all."""

from __future__ import annotations

#: A function for scripts: seconds since 1970, with microseconds.
CLOCK = """
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end
"""
