"""URLs and settings for people to read, without passwords."""

from __future__ import annotations

import re
from typing import Any

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
    if re.search("password|secret|_web$|_alerts$", key):  # hashes of passwords, addresses
        return "***"
    if isinstance(value, str):
        return repr(masked(value))
    # A wrong value in the place of a URL may hold a password.
    return f"a {type(value).__name__}" if re.search("url|redis|backend", key) else repr(value)


#: Names of arguments whose values nobody is to read on a page.
SECRET_NAME = re.compile(
    r"(?i)passw|pwd$|secret|token|api_?-?key|private_?-?key|access_?-?key|credential|authoriz"
    r"|cookie|session_?id|otp$|\bpin$|\bcvv|\biban$"
)
MASK = "***"


def without_secrets(value: Any) -> Any:
    """The JSON value, with ``***`` for whatever has a name that looks secret, and in URLs.

    Everything under such a name is hidden, whatever its type.
    """
    if isinstance(value, dict):
        return {
            key: MASK if _is_secret(key) and item is not None else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) and "://" in value else value


def with_secrets_of(value: Any, before: Any) -> Any:
    """The value, each ``***`` in it as it was before where it was hidden there."""
    if isinstance(value, dict) and isinstance(before, dict):
        return {
            key: (
                before[key]
                if key in before and item == without_secrets({key: before[key]})[key]
                else with_secrets_of(item, before.get(key))
            )
            for key, item in value.items()
        }
    if isinstance(value, list) and isinstance(before, list) and len(value) == len(before):
        return [with_secrets_of(*both) for both in zip(value, before, strict=True)]
    if isinstance(before, str) and value == without_secrets(before):
        return before
    return value


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and bool(SECRET_NAME.search(key))
