"""A server's URL: read only here, and then spelled for each library, or refused.

redis-py, kombu and Celery's result backend each read URLs differently: an option that one accepts,
another refuses with a TypeError, or ignores.  So each gets a plain URL, which all read alike, and
the options as its own arguments and settings.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import quote

from frappe_jobs.servers.url_options import (
    AMQP_SCHEMES,
    REDIS_SCHEMES,
    SOCKET_SCHEMES,
    database,
    decoded,
    read_options,
    take_tls,
)

SCHEMES = REDIS_SCHEMES + AMQP_SCHEMES

PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}

#: Where the next URL begins, in a list of RabbitMQ's nodes.
NEXT_URL = re.compile(r";(?=[\w+.-]+://)")

#: How redis-py's arguments for TCP begin; its oldest versions refuse them on a Unix socket.
TCP_ALONE = ("socket_connect_timeout", "socket_keepalive")

#: The longest that a Unix socket's path, and a virtual host's name, may be.
SOCKET_PATH_LIMIT, VIRTUAL_HOST_LIMIT = 107, 255


@dataclass(frozen=True)
class ServerURL:
    """What a URL says."""

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str = ""
    port: int = 0
    #: The path of a Unix socket; then there is no host.
    path: str = ""
    database: int = 0
    virtual_host: str = "/"
    #: By redis-py's names, for RabbitMQ by kombu's; typed.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: All TLS options, by redis-py's names; None if nothing is encrypted.
    tls: Mapping[str, Any] | None = None
    #: The other nodes of the same RabbitMQ.
    others: tuple[ServerURL, ...] = ()

    @property
    def is_amqp(self) -> bool:
        return self.scheme in AMQP_SCHEMES

    def for_redis_py(self, **defaults: Any) -> dict[str, Any]:
        """The arguments of ``redis.Redis.from_url``; the URL's options win over the defaults."""
        if self.path:
            where = f"unix://{self._credentials}{quote(self.path)}?db={self.database}"
            defaults = {key: defaults[key] for key in defaults if not key.startswith(TCP_ALONE)}
        else:
            where = f"{self.scheme}://{self._credentials}{self._address}/{self.database}"
        return {"url": where, **defaults, **self.options, **(self.tls or {})}

    def for_celery(self) -> str:
        """The URL as kombu and Celery's result backend read it, without the options."""
        if self.path:
            socket = f"{self._credentials}{quote(self.path)}?virtual_host={self.database}"
            return f"redis+socket://{socket}"
        if not self.is_amqp:
            return f"{self.scheme}://{self._credentials}{self._address}/{self.database}"
        scheme, host = "amqps" if self.tls else self.scheme, self._address
        if ":" in self.host:  # py-amqp needs the brackets that kombu would remove
            host = quote(f"[{self.host}]") + f":{self.port}"
        url = f"{scheme}://{self._credentials}{host}/{quote(self.virtual_host)}"
        return ";".join([url, *(other.for_celery() for other in self.others)])

    def use_ssl(self) -> dict[str, Any] | None:
        """Celery's ``…_use_ssl``: by redis-py's names, or by py-amqp's."""
        if self.tls is None or not self.is_amqp:
            return dict(self.tls) if self.tls else None
        is_checked = self.tls["ssl_cert_reqs"] != "none"
        options = {
            "cert_reqs": ssl.CERT_REQUIRED if is_checked else ssl.CERT_NONE,
            "server_hostname": self.host if self.tls["ssl_check_hostname"] else None,
            "ca_certs": self.tls.get("ssl_ca_certs"),
            "certfile": self.tls.get("ssl_certfile"),
            "keyfile": self.tls.get("ssl_keyfile"),
        }
        return {key: value for key, value in options.items() if value is not None}

    @property
    def _credentials(self) -> str:
        if self.username is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.username or '', safe='')}{password}@"

    @property
    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@lru_cache(maxsize=64)
def read_url(text: str) -> ServerURL:
    """Read it; for RabbitMQ it may be a list of nodes, with ``;`` between them.

    Raises ValueError, which says what is legal, and quotes nothing that may be a password.
    """
    first, *rest = (_read_one(part) for part in NEXT_URL.split(text))
    if not rest:
        return first
    if not all(node.is_amqp for node in (first, *rest)):
        raise ValueError("one URL; only RabbitMQ's nodes may be a list")
    shared = ("options", "tls", "virtual_host")
    if any(getattr(node, name) != getattr(first, name) for node in rest for name in shared):
        raise ValueError("a list of nodes with the same options and virtual host")
    is_one_host = {node.host for node in rest} == {first.host}
    if first.tls and first.tls["ssl_check_hostname"] and not is_one_host:
        raise ValueError(
            "one URL, or a list with ssl_check_hostname=false: the nodes' certificates can be "
            "checked against a single host name only"
        )
    return ServerURL(**{**vars(first), "others": tuple(rest)})


def _read_one(text: str) -> ServerURL:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        legal = ", ".join(f"{known}://" for known in SCHEMES)
        raise ValueError(f"a URL that begins with {legal}; others are not supported")
    if not text.isprintable() or " " in text or "#" in text:
        raise ValueError("a URL without spaces and '#', which are spelled %20 and %23")
    found = re.fullmatch(r"([^/?]*)([^?]*)(?:\?(.*))?", rest)
    authority, path, query = found.groups(default="") if found else ("", "", "")
    if "@" in path + query:
        raise ValueError(
            "a URL with an '@' only before the host; in a password '/' is spelled %2F, and '?' "
            "%3F, elsewhere '@' is %40"
        )
    credentials, _, address = authority.rpartition("@")
    username, password = _credentials(credentials)
    common: dict[str, Any] = {"scheme": scheme, "username": username, "password": password}
    options = read_options(scheme, query)
    if scheme in SOCKET_SCHEMES:
        return ServerURL(**common, **_socket(address, path, options))
    host, port = _address(address, PORTS[scheme])
    where: dict[str, Any] = {"host": host, "port": port, "tls": take_tls(scheme, options)}
    if scheme in AMQP_SCHEMES:
        where["virtual_host"] = _virtual_host(path)
    else:
        where["database"] = _database_of(path, options)
    return ServerURL(**common, **where, options=options)


def _credentials(text: str) -> tuple[str | None, str | None]:
    username, _, password = text.partition(":")
    return decoded(username) or None, decoded(password) or None


def _address(text: str, default_port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::([0-9]{0,5}))?", text)
    if not found or (found[3] and not 0 < int(found[3]) < 65536):
        raise ValueError(
            "a URL with a host and a port, a number from 1 to 65535, such as host:6379"
        )
    return _ipv6(found[1]) if found[1] is not None else _host(found[2]), int(
        found[3] or default_port
    )


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text if "%" not in text else ""))
    except ValueError:
        raise ValueError("a URL with an IPv6 address between [ and ]") from None


def _host(text: str) -> str:
    try:
        host = decoded(text).encode("idna").decode().lower() if text else "localhost"
    except UnicodeError:
        host = ""
    if not re.fullmatch(r"[\w.-]+", host):
        raise ValueError("a URL with the name or the address of a host")
    return host


def _socket(address: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
    where = decoded(path)
    is_path = len(where) > 1 and "\0" not in where
    if address or not is_path or len(where.encode()) > SOCKET_PATH_LIMIT:
        raise ValueError("the URL of a socket with its absolute path, such as unix:///run/x.sock")
    return {"path": where, "database": options.pop("db", 0), "options": options}


def _database_of(path: str, options: dict[str, Any]) -> int:
    """The database: its path, or its option ``db``."""
    try:
        numbers = {database(path[1:])} if path[1:] else set()
    except ValueError as error:
        raise ValueError(f"a URL whose path is {error}") from None
    numbers |= {options.pop("db")} if "db" in options else set()
    if len(numbers) > 1:
        raise ValueError("a URL with one database, in its path or as 'db'")
    return numbers.pop() if numbers else 0


def _virtual_host(path: str) -> str:
    name = decoded(path[1:]) or "/"
    if len(name.encode()) > VIRTUAL_HOST_LIMIT:
        raise ValueError("a URL whose virtual host has at most 255 bytes")
    return name
