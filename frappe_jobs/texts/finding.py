"""What a check found: said, never printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """Something to tell the operator: how bad, what happened and to which value, the cure."""

    level: Level
    what: str
    cure: str = ""
