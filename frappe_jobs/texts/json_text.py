"""JSON as people write it, in files, on the command line and in the environment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

#: No real setting or argument nests deeper; Python's own limits differ between versions.
DEEPEST = 200

#: Types that hold other values.
HOLDERS = (dict, list, tuple)


def parse_json(text: str) -> Any:
    """The value of that text; raises ValueError that says what is wrong with it.

    It is a JSONDecodeError, with line and column, unless the text is JSON that Python cannot hold.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise ValueError("a number has too many digits") from None
    if is_too_deep(value, DEEPEST + 1):
        raise _too_deep()
    return value


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {DEEPEST} levels")


def is_too_deep(value: object, deepest: int) -> bool:
    """Whether lists and objects nest over that many levels; works without recursion."""
    level: list[Any] = [value]
    for _ in range(deepest - 1):  # it runs for each message, so plain values are dropped at once
        level = [item for part in level for item in inside(part) if isinstance(item, HOLDERS)]
        if not level:
            return False
    return any(True for part in level for _ in inside(part))


def inside(value: object) -> Iterable[object]:
    """What a list or an object holds; nothing else holds anything."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, HOLDERS) else ()
