"""Hashes of passwords, as they stand in common_site_config.json."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading

#: scrypt's cost: 16 MB and some 50 ms for a try, as OWASP's sheet allows.
N, R, P = 2**14, 8, 5
KIND, LENGTH = "scrypt", 32

#: One try at a time, so that many logins at once cost no more memory than one.
_turn = threading.Lock()


def hashed(password: str) -> str:
    """The password's hash, with a salt of its own: ``scrypt$…``."""
    salt = secrets.token_bytes(16)
    return "$".join((KIND, str(N), str(R), str(P), _text(salt), _text(_scrypt(password, salt))))


def is_hash(text: object) -> bool:
    """Whether ``hashed`` has written it."""
    try:
        _parts(str(text))
    except ValueError:
        return False
    return True


def fits(password: str, text: str | None) -> bool:
    """Whether it is the password of that hash; takes as long for None, and is false."""
    if text is None:
        _scrypt(password, bytes(16))
        return False
    salt, known = _parts(text)
    return hmac.compare_digest(_scrypt(password, salt), known)


def _parts(text: str) -> tuple[bytes, bytes]:
    kind, *cost, salt, known = text.split("$")
    if (kind, *cost) != (KIND, str(N), str(R), str(P)):
        raise ValueError("another kind of hash")
    parts = base64.b64decode(salt, validate=True), base64.b64decode(known, validate=True)
    if len(parts[1]) != LENGTH:
        raise ValueError("its length is wrong")
    return parts


def _scrypt(password: str, salt: bytes) -> bytes:
    with _turn:
        text = password.encode("utf-8", "backslashreplace")
        return hashlib.scrypt(text, salt=salt, n=N, r=R, p=P, maxmem=2**26, dklen=LENGTH)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
