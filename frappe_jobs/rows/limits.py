"""The limits: what they hold for, and how much of each is used."""

from __future__ import annotations

from typing import Any

from frappe_jobs.ledger import Ledger

COLUMNS = ("limit", "for", "rule", "running", "waiting")


def rows(ledger: Ledger) -> list[dict[str, Any]]:
    """A line for each rule, and one for each site, or value, under which jobs have counted."""
    rules, used = ledger.limits(), ledger.limits_in_use()
    known = {use.key.partition("|")[0] for use in used}
    unused = [
        {"limit": what, "for": None, "rule": _in_words(rule), "running": 0, "waiting": 0}
        for what, rule in rules.items()
        if what not in known
    ]
    return unused + [
        {
            "limit": use.key.partition("|")[0],
            "for": use.key.partition("|")[2] or None,
            "rule": _in_words(use.rule) or "none any more",
            "running": use.running,
            "waiting": use.waiting,
        }
        for use in sorted(used, key=lambda one: one.key)
        if use.rule or use.waiting
    ]


def _in_words(rule: str) -> str:
    """A rule of the ledger's for people: "running 1, rate 30 in 60 s, per site"."""
    parts = (part.replace("=", " ") for part in rule.split(";") if rule)
    return ", ".join(f"{part.replace('/', ' in ')} s" if "/" in part else part for part in parts)
