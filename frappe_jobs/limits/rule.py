"""A limit as hooks and the configuration spell it, and as the ledger takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from frappe_jobs.errors import shortened

#: Seconds of a rate's unit.
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: The most that a limit may say.
MOST = 100_000

KEYS = ("running", "rate", "per")


def rule_text(rule: object, *, is_of_method: bool) -> str:
    """The rule as the ledger takes it; raises ValueError with what is legal."""
    legal = KEYS if is_of_method else KEYS[:2]
    if not isinstance(rule, Mapping) or not rule.keys() & {"running", "rate"}:
        raise ValueError(
            f'must be an object with "running", "rate" or both; not {shortened(rule)}.'
        )
    if unknown := [key for key in rule if key not in legal]:
        raise ValueError(f"knows the keys {', '.join(legal)}; not {shortened(unknown[0])}.")
    parts = []
    if "running" in rule:
        running = rule["running"]
        if isinstance(running, bool) or not isinstance(running, int) or not 0 <= running <= MOST:
            raise ValueError(
                f".running must be a whole number from 0 to {MOST:,}; not {shortened(running)}."
            )
        parts.append(f"running={running}")
    if "rate" in rule:
        parts.append(f"rate={_rate(rule['rate'])}")
    if is_of_method:
        parts.append(f"per={_per(rule.get('per', 'site'))}")
    return ";".join(parts)


def _rate(rate: object) -> str:
    found = re.fullmatch(r"(\d{1,6})/([smhd])", rate) if isinstance(rate, str) else None
    if not found or not 1 <= int(found[1]) <= MOST:
        raise ValueError(
            f'.rate must say how many in a second, minute, hour or day: "30/m", from 1 to {MOST:,} '
            f"in one of {', '.join(UNITS)}; not {shortened(rate)}."
        )
    return f"{int(found[1])}/{UNITS[found[2]]}"


def _per(per: object) -> str:
    if isinstance(per, str):
        name = per.removeprefix("argument:")
        if per in ("bench", "site") or (name != per and name.isidentifier()):
            return per
    raise ValueError(
        f'.per must be "bench", "site" or "argument:" and its name; not {shortened(per)}.'
    )
