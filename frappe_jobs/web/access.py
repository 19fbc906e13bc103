"""Who may see and do what: ``frappe_jobs_web`` of common_site_config.json."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from frappe_jobs.config import Settings
from frappe_jobs.errors import ConfigError, shortened
from frappe_jobs.sites_folder import COMMON_CONFIG, read_common, version_of
from frappe_jobs.web.passwords import is_hash

KEY = "frappe_jobs_web"
READ_ONLY, OPERATOR, ADMIN = "read-only", "operator", "admin"
#: Each may what those before it may.
ROLES = (READ_ONLY, OPERATOR, ADMIN)
LEGAL = ("users", "hosts", "trusted_header", "trusted_proxies", "https", "session_hours")


@dataclass(frozen=True)
class Person:
    """Who looks at the pages."""

    name: str
    role: str = READ_ONLY
    #: The sites that they may see; None: all.
    sites: frozenset[str] | None = None

    def sees(self, site: str) -> bool:
        return self.sites is None or site in self.sites

    @property
    def sees_all(self) -> bool:
        """Whether figures of the whole bench are theirs: they would tell of other sites."""
        return self.sites is None

    def may(self, role: str) -> bool:
        """Whether that role's actions are theirs."""
        return ROLES.index(self.role) >= ROLES.index(role)


#: Whoever reaches the loopback address, where no users are configured.
ANYBODY = Person("")


@dataclass(frozen=True)
class Access:
    """The configuration, checked."""

    people: Mapping[str, Person] = field(default_factory=dict)
    #: Their passwords' hashes; who has none comes through the proxy.
    hashes: Mapping[str, str] = field(default_factory=dict)
    #: The names in an address by which the pages are reached, beside this machine's own.
    hosts: Collection[str] = ()
    #: The header in which these proxies name who is logged in there.
    trusted_header: str | None = None
    trusted_proxies: Collection[str] = ()
    #: Whether a proxy in front of the pages speaks TLS, so that cookies go by that alone.
    https: bool = False
    session_hours: int = 12

    @property
    def is_open(self) -> bool:
        """Whether nobody logs in: then it is read-only, and only for this machine."""
        return not self.people


def access_of(settings: Settings) -> Access:
    """As the file says now: who is taken out of it is out at once.  Raises ConfigError."""
    path = str(settings.sites_path / COMMON_CONFIG)
    origin = settings.origins.get("web", path)
    if origin != path:  # the environment
        return _checked(settings.web, origin)
    return _read(path, version_of(path))


@lru_cache(maxsize=4)
def _read(path: str, version: object) -> Access:
    return _checked(read_common(Path(path).parent).get(KEY), path)


def _checked(given: object, origin: str) -> Access:
    try:
        return Access() if given is None else parse(given)
    except ValueError as error:
        raise ConfigError(f"{origin}: {KEY!r}: {error}. See docs/web.md.") from None


def parse(given: object) -> Access:
    """The checked configuration; raises ValueError that says what is legal, and no hash."""
    values = _object(given, "it", LEGAL)
    users = values.get("users", {})
    if not isinstance(users, dict):
        raise ValueError('\'users\' must be an object such as {"anna": {"password": …}}')
    people = {name: _person(name, user) for name, user in users.items()}
    hashes = {name: user["password"] for name, user in users.items() if user.get("password")}
    header, proxies = values.get("trusted_header"), _texts(values, "trusted_proxies")
    if (header is None) != (not proxies) or not isinstance(header, str | None):
        raise ValueError("'trusted_header' and 'trusted_proxies' go together: a header's name, "
                         "and the addresses of those who set it")  # fmt: skip
    for address in proxies:
        ipaddress.ip_address(address)  # its ValueError names the address
    if without := sorted(people.keys() - hashes.keys()):
        if header is None:
            raise ValueError(f"{shortened(without[0])} has no 'password', so nobody can log in so")
    hours = values.get("session_hours", 12)
    if isinstance(hours, bool) or not isinstance(hours, int) or not 1 <= hours <= 720:
        raise ValueError(
            f"'session_hours' must be a whole number, 1 to 720; not {shortened(hours)}"
        )
    if not isinstance(https := values.get("https", False), bool):
        raise ValueError(f"'https' must be true or false; not {shortened(https)}")
    return Access(
        people, hashes, _texts(values, "hosts"), header and header.lower(), proxies, https, hours
    )


def _person(name: str, user: object) -> Person:
    values = _object(user, f"the user {shortened(name)}", ("password", "role", "sites"))
    password, role = values.get("password"), values.get("role", READ_ONLY)
    if password is not None and not is_hash(password):
        raise ValueError(
            f"the 'password' of {shortened(name)} must be what frappe-jobs web-password prints"
        )
    if role not in ROLES:
        raise ValueError(
            f"the 'role' of {shortened(name)} must be one of {', '.join(ROLES)}; not "
            f"{shortened(role)}"
        )
    if values.get("sites") in (None, "all"):
        return Person(name, role)
    return Person(name, role, frozenset(_texts(values, "sites")))


def _object(value: object, what: str, legal: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object with the keys {', '.join(legal)}")
    if unknown := sorted(value.keys() - set(legal)):
        raise ValueError(f"{what} has no key {shortened(unknown[0])}; legal: {', '.join(legal)}")
    return value


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = values.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise ValueError(f"{key!r} must be a list of names; not {shortened(found)}")
    return tuple(found)
