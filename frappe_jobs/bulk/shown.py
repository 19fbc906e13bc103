"""The jobs that somebody was shown, as they were then: what is done in bulk is done to those."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from frappe_jobs.errors import ArgumentError, shortened
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.search import LONGEST_PAGE, Search
from frappe_jobs.message import to_json

#: Jobs of one bulk action, unless more are asked for.
LIMIT = 10_000
#: Seconds for which it is remembered what was shown.
REMEMBERED = 900


@dataclass(frozen=True)
class Shown:
    """Some jobs, and their statuses when they were looked at."""

    #: By the ids of their messages, latest first.
    statuses: Mapping[str, str]
    #: How many there are of each site, status, queue and method.
    counts: Mapping[tuple[str, str, str, str], int]
    #: Whether the search would have found more.
    has_more: bool


def look(search: Search, limit: int | None = LIMIT) -> Shown:
    """The jobs that the search finds now, so many at most; None: all.

    Raises BrokerUnavailable.
    """
    statuses: dict[str, str] = {}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    cursor: str | None = None
    while limit is None or len(statuses) < limit:
        left = LONGEST_PAGE if limit is None else min(LONGEST_PAGE, limit - len(statuses))
        page = search.page(cursor, left)
        for record in page.records:
            message = record.message
            if message.id not in statuses:  # it has changed between two pages
                statuses[message.id] = record.status
                counts[message.site, record.status, message.queue, message.method] += 1
        cursor = page.cursor
        if cursor is None:
            break
    return Shown(statuses, counts, has_more=cursor is not None)


def remember(ledger: Ledger, shown: Shown) -> str:
    """Keep it for a quarter of an hour; gives the word by which it is recalled, hard to guess."""
    word = secrets.token_urlsafe(16)
    counts = [[*what, count] for what, count in shown.counts.items()]
    text = to_json([shown.statuses, counts, shown.has_more])
    with ledger.reaching():
        ledger.redis.set(ledger._key("shown", word), text, ex=REMEMBERED)
    return word


def recall(ledger: Ledger, word: str) -> Shown:
    """What was remembered by that word; raises ArgumentError if it is no longer known."""
    text = None
    if isinstance(word, str) and re.fullmatch(r"[A-Za-z0-9_-]{22}", word):
        with ledger.reaching():
            text = ledger.redis.get(ledger._key("shown", word))
    if text is None:
        raise ArgumentError(
            f"What was shown as {shortened(word)} is no longer known: it is kept for "
            f"{REMEMBERED // 60} minutes. Look at the jobs again."
        )
    statuses, counts, has_more = json.loads(text)
    return Shown(statuses, {tuple(what): count for *what, count in counts}, has_more)
