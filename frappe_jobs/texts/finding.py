"""What a check found; nothing is printed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What to tell the operator: how bad, what is wrong with which value, and the cure."""

    level: Level
    what: str
    cure: str = ""
