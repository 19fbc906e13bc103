"""redis-py reads a file for its own version at each connection; in the tests, once."""

from __future__ import annotations

from functools import cache

from redis import utils


def keep() -> None:
    """Read it once in this process, and in its forks: two milliseconds for each connection."""
    if hasattr(utils, "get_lib_version"):  # not in redis-py 4
        utils.get_lib_version = cache(utils.get_lib_version)
