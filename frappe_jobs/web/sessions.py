"""Who is logged in, kept in Redis; and how often somebody may try to."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis

#: Seconds for which failed tries count; and how many may fail, by what they have in common.
WINDOW = 15 * 60
TRIES = {"address and name": 5, "address": 20, "name": 50}


class Sessions(BenchRedis):
    """The sessions of one bench: of each token only its hash is kept."""

    @reachable
    def begin(self, name: str, proof: str, hours: int) -> str:
        """The token of a new session; ``proof`` changes with the user's password."""
        token = secrets.token_urlsafe(32)
        key = self._session_key(token)
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping={"name": name, "proof": _hash(proof)})
            pipe.expire(key, hours * 3600)
            pipe.execute()
        return token

    @reachable
    def find(self, token: str) -> tuple[str, str] | None:
        """The user's name, and the hash of the proof; None if it is over or never began."""
        found = self.redis.hgetall(self._session_key(token))
        return (found["name"], found["proof"]) if {"name", "proof"} <= {*found} else None

    @reachable
    def end(self, token: str) -> None:
        self.redis.delete(self._session_key(token))

    @reachable
    def token_for(self, bound_to: str) -> str:
        """What a form of that session must bring back, and no other page can know."""
        key = self._key("web", "secret")
        self.redis.set(key, secrets.token_hex(32), nx=True)
        secret = str(self.redis.get(key))
        return hmac.new(secret.encode(), bound_to.encode(), hashlib.sha256).hexdigest()

    @reachable
    def rest(self, address: str, name: str) -> int:
        """Seconds until somebody from there may try again as that user; 0: now."""
        with self.redis.pipeline(transaction=False) as pipe:
            for key, _ in self._tries(address, name):
                pipe.get(key)
                pipe.ttl(key)
            found = pipe.execute()
        limits = [limit for _, limit in self._tries(address, name)]
        rests = zip(found[::2], found[1::2], limits, strict=True)
        return max(
            (max(1, ttl) for count, ttl, limit in rests if int(count or 0) >= limit), default=0
        )

    @reachable
    def note_try(self, address: str, name: str) -> None:
        """Count a try before it is looked at, so that many at once are many."""
        with self.redis.pipeline() as pipe:
            for key, _ in self._tries(address, name):
                pipe.set(key, 0, nx=True, ex=WINDOW)
                pipe.incr(key)
            pipe.execute()

    @reachable
    def note_success(self, address: str, name: str) -> None:
        """Forget the tries as that user from there."""
        self.redis.delete(next(self._tries(address, name))[0])

    def _tries(self, address: str, name: str) -> Iterator[tuple[str, int]]:
        who = {"address and name": f"{address} {name}", "address": address, "name": name}
        for what, limit in TRIES.items():
            yield self._key("web", "tries", _hash(f"{what}: {who[what]}")), limit

    def _session_key(self, token: str) -> str:
        return self._key("web", "session", _hash(token))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def same_proof(proof: str, known: str) -> bool:
    """Whether the session was begun with that proof."""
    return hmac.compare_digest(_hash(proof), known)
