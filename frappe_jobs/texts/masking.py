"""URLs and settings for people to read, without passwords."""

from __future__ import annotations

import re

SCHEME = re.compile(r"[\w+.-]+://")
#: Where another URL begins in a broker's list of servers.
NEXT_URL = re.compile(r"(?<=[;,\s])(?=[\w+.-]+://)")
SECRET_PARAMETER = re.compile(r"(?i)((?:^|[?&;\s])[\w-]*(?:password|passwd|pwd|secret)=)[^&;#\s]+")


def masked(url: str) -> str:
    """The URL, or the list of URLs, with ``***`` for each password, for people to read.

    In doubt it hides too much: a password may hold any character, escaped or not.
    """
    return "".join(_masked(part) for part in NEXT_URL.split(url))


def _masked(url: str) -> str:
    found = SCHEME.match(url)
    scheme = found[0] if found else ""
    rest = SECRET_PARAMETER.sub(r"\1***", url.removeprefix(scheme))
    credentials, _, host = rest.rpartition("@")
    if ":" in credentials:
        rest = f"{credentials.partition(':')[0]}:***@{host}"
    return scheme + rest


def shown(key: str, value: object) -> str:
    """A setting's value for people to read, without passwords."""
    if re.search("password|secret", key):
        return "***"
    if isinstance(value, str):
        return repr(masked(value))
    # A wrong value in the place of a URL may hold a password.
    return f"a {type(value).__name__}" if re.search("url|redis|backend", key) else repr(value)
