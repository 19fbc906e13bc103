"""Where a page of a search has ended, as a text that its reader hands back for the next page."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from math import inf, isfinite
from typing import NamedTuple

from frappe_jobs.errors import ArgumentError, shortened
from frappe_jobs.ledger.connection import as_bytes

#: Characters of a cursor, at most; the ids of messages that others made may be long.
LONGEST = 2_000


class Position(NamedTuple):
    """A place in the order of all jobs: latest first, at one moment by their ids, z before a."""

    time: float
    id: bytes

    @property
    def text_id(self) -> str:
        return self.id.decode("utf-8", "surrogateescape")


#: Comes before all ids at one moment: none begins with such a byte.
FIRST = b"\xff"
START = Position(inf, FIRST)


def write(position: Position, search: str) -> str:
    """The cursor of that place in the search that is described so."""
    payload = json.dumps([position.time, position.text_id]).encode()
    return urlsafe_b64encode(_check(payload, search) + payload).decode().rstrip("=")


def read(cursor: str, search: str) -> Position:
    """The place; raises ArgumentError for a text that is no cursor of that search."""
    try:
        if not isinstance(cursor, str) or len(cursor) > LONGEST or not cursor.isascii():
            raise ValueError
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        check, payload = raw[:6], raw[6:]
        if check != _check(payload, search):
            raise ValueError
        time, message_id = json.loads(payload)
        if not isfinite(time):
            raise ValueError
        return Position(float(time), as_bytes(message_id))
    except (ValueError, TypeError, AttributeError):  # also of base64
        raise ArgumentError(
            f"{shortened(cursor)} is no cursor of this search: it is damaged, or the filters are "
            "others than those of the page before. Begin without a cursor."
        ) from None


def _check(payload: bytes, search: str) -> bytes:
    # It finds mistakes; it need keep no secret, as a place says nothing about what is there.
    return sha256(as_bytes(search) + b"\0" + payload).digest()[:6]
