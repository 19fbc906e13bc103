"""How servers are reached: their URLs, time limits, refusals, clocks."""
