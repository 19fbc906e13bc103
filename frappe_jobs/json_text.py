"""JSON as people write it, in files, on the command line and in the environment."""

from __future__ import annotations

import json
from typing import Any

#: Nobody nests a setting or an argument deeper; Python's own limits differ from version to version.
DEEPEST = 200


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
    if _is_deeper(value, DEEPEST):
        raise _too_deep()
    return value


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {DEEPEST} levels")


def _is_deeper(value: object, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
