"""What a check found: said, never printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """Something to tell the operator: how bad, what happened and to which value, the cure."""

    level: Literal["ok", "warning", "error"]
    what: str
    cure: str = ""
