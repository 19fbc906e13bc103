"""JSON as people write it, in files, on the command line and in the environment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

#: Nobody nests a setting or an argument deeper; Python's own limits differ from version to version.
DEEPEST = 200

#: What holds something else.
HOLDERS = (dict, list, tuple)


def parse_json(text: str) -> Any:
    """The value of that text; raises ValueError that says what is wrong with it.

    That is a JSONDecodeError, with line and column, unless it is JSON that Python could not hold.
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
    """Whether lists and objects nest over so many levels; asks without recursion."""
    level: list[Any] = [value]
    for _ in range(deepest - 1):  # asked of each message: what holds nothing is left out at once
        level = [item for one in level for item in inside(one) if isinstance(item, HOLDERS)]
        if not level:
            return False
    return any(True for one in level for _ in inside(one))


def inside(value: object) -> Iterable[object]:
    """What a list or an object holds; nothing else holds anything."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, HOLDERS) else ()
