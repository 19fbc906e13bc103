"""What may stand after the ``?`` of a server's URL, and what it means."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")
SOCKET_SCHEMES = ("unix", "redis+socket")
REDIS_SCHEMES = ("redis", "rediss", *SOCKET_SCHEMES)

DAY = 24 * 3600


# --- what an option must look like; each returns the value or raises ValueError with what is legal


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= DAY:
        raise ValueError("a number of seconds, more than 0 and at most a day")
    return float(text)


def _whole_seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > DAY:
        raise ValueError("a whole number of seconds, 0 (never) to a day")
    return int(text)


def _yes_or_no(text: str) -> bool:
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in answers:
        raise ValueError("true or false")
    return answers[text.lower()]


def database(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("the number of a database, such as 0")
    return int(text)


def _word(text: str) -> str:
    if not re.fullmatch("[!-~]{1,100}", text):
        raise ValueError("a word without spaces")
    return text


def _verification(text: str) -> str:
    known = ("required", "optional", "none")
    if (word := text.lower().removeprefix("cert_")) not in known:
        raise ValueError("required or none")
    return "none" if word == "none" else "required"  # for a client "optional" means that, too


def _file(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("the absolute path of a file")
    return text


Parsers = Mapping[str, Callable[[str], Any]]

TLS_OPTIONS: Parsers = {
    "ssl_cert_reqs": _verification, "ssl_check_hostname": _yes_or_no, "ssl_ca_certs": _file,
    "ssl_certfile": _file, "ssl_keyfile": _file,
}  # fmt: skip
SOCKET_OPTIONS: Parsers = {
    "db": database, "socket_timeout": _seconds, "health_check_interval": _whole_seconds,
    "retry_on_timeout": _yes_or_no, "client_name": _word,
}  # fmt: skip
REDIS_OPTIONS: Parsers = {
    **SOCKET_OPTIONS, "socket_connect_timeout": _seconds, "socket_keepalive": _yes_or_no
}  # fmt: skip
AMQP_OPTIONS: Parsers = {
    "heartbeat": _whole_seconds, "connect_timeout": _seconds, "ssl": _yes_or_no
}  # fmt: skip

#: Other spellings: kombu's for the database, RabbitMQ's own for the certificates.
ALIASES = {
    "virtual_host": "db", "connection_timeout": "connect_timeout", "cacertfile": "ssl_ca_certs",
    "cafile": "ssl_ca_certs", "certfile": "ssl_certfile", "keyfile": "ssl_keyfile",
}  # fmt: skip


def decoded(text: str) -> str:
    """The text with its ``%…`` decoded; raises ValueError."""
    try:
        return unquote(text, errors="strict")
    except UnicodeError:
        raise ValueError("a URL whose %… spell UTF-8") from None


def read_options(scheme: str, query: str) -> dict[str, Any]:
    """All of its options, by our names for them; raises ValueError."""
    own: Parsers = AMQP_OPTIONS if scheme in AMQP_SCHEMES else REDIS_OPTIONS
    known = SOCKET_OPTIONS if scheme in SOCKET_SCHEMES else {**own, **TLS_OPTIONS}
    options: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        spelled, _, value = part.partition("=")
        name = ALIASES.get(spelled, spelled)
        if name not in known:
            named = spelled if re.fullmatch(r"\w{1,40}", spelled) else "others"
            raise ValueError(f"a URL with the options {', '.join(known)} only, not {named!r}")
        try:
            parsed = known[name](decoded(value))
        except ValueError as error:
            raise ValueError(f"a URL whose {spelled!r} is {error}") from None
        if name in options:
            raise ValueError(f"a URL with one {name!r}")
        options[name] = parsed
    return options


def take_tls(scheme: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """Remove from the options, and return, how to encrypt the connection and verify the server."""
    given = {name: options.pop(name) for name in TLS_OPTIONS if name in options}
    is_encrypted = scheme in ("rediss", "amqps")
    if options.pop("ssl", is_encrypted) != is_encrypted:
        if is_encrypted:
            raise ValueError("a URL without ssl=false, or with amqp://")
        is_encrypted = True
    if not is_encrypted:
        if given:
            secure = "amqps" if scheme in AMQP_SCHEMES else "rediss"
            raise ValueError(f"a URL that begins with {secure}:// if it has {min(given)!r}")
        return None
    is_checked = given.get("ssl_cert_reqs") != "none"
    tls = {"ssl_cert_reqs": "required"} | given
    tls["ssl_check_hostname"] = is_checked and given.get("ssl_check_hostname", True)
    _check_files(tls)
    return tls


def _check_files(tls: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that cannot be used: later errors would not say it so well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, certificate, key = map(tls.get, ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    if key and not certificate:
        raise ValueError("a URL with 'ssl_certfile' if it has 'ssl_keyfile'")
    try:
        if authorities:
            context.load_verify_locations(authorities)
    except OSError as error:  # also if it is no certificate
        raise ValueError(f"a URL whose 'ssl_ca_certs' is a file of certificates: {error}") from None
    try:
        if certificate:
            context.load_cert_chain(certificate, key, password=lambda: "")  # else OpenSSL would ask
    except OSError as error:
        raise ValueError(
            "a URL whose 'ssl_certfile' is a certificate, with an unencrypted key in the same file "
            f"or in 'ssl_keyfile': {error}"
        ) from None
