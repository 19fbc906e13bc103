"""What is paused, and which sites have more than an equal share: read by each take of a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.keys import BenchRedis
from frappe_jobs.message import Message, to_json

#: Whether a site is paused, in that queue or in all; of a queue as a whole its name is a field.
IS_SITE_PAUSED = """
local function is_site_paused(paused, queue, site)
  return redis.call('HEXISTS', paused, queue .. '|' .. site) == 1
    or redis.call('HEXISTS', paused, '|' .. site) == 1
end
"""


class Pause(NamedTuple):
    """What is paused: a queue, a site's part of a queue, or a site in all queues."""

    queue: str | None
    site: str | None
    #: When that began, in seconds since 1970.
    since: float = 0.0

    @property
    def name(self) -> str:
        """In words: "long", "site1 in long", "site1"."""
        return " in ".join(part for part in (self.site, self.queue) if part)

    def holds(self, message: Message) -> bool:
        """Whether it keeps that message waiting."""
        return self.queue in (None, message.queue) and self.site in (None, message.site)


def what_is_paused(queue: str, pauses: Sequence[Pause]) -> str | None:
    """Of the queue: "all", or the sites; None: nothing."""
    of_queue = [one for one in pauses if one.queue in (None, queue)]
    if any(one.site is None for one in of_queue):
        return "all"
    return ", ".join(sorted({str(one.site) for one in of_queue})) or None


class Pauses(BenchRedis):
    """Pauses outlive workers and their restarts; they last until they are ended."""

    @reachable
    def pause(self, pauses: Sequence[Pause]) -> list[bool]:
        """From now on no worker takes these jobs; what runs goes on.  True for each new one."""
        now = time.time()
        with self.redis.pipeline() as pipe:
            for one in pauses:
                pipe.hsetnx(self._key("paused"), self._field(one), now)
            return [*map(bool, pipe.execute())]

    @reachable
    def end_pauses(self, pauses: Sequence[Pause]) -> list[bool]:
        """Have workers take these jobs again; False for each that was not paused."""
        with self.redis.pipeline() as pipe:
            for one in pauses:
                pipe.hdel(self._key("paused"), self._field(one))
            return [*map(bool, pipe.execute())]

    @reachable
    def pauses(self) -> list[Pause]:
        """What is paused, in the order in which that began."""
        found = self.redis.hgetall(self._key("paused"))
        return sorted((self._read(field, since) for field, since in found.items()),
                      key=lambda one: one.since)  # fmt: skip

    @reachable
    def set_weights(self, weights: Mapping[str, float]) -> None:
        """From now on these sites have these shares of each queue, and all others 1."""
        key = self._key("weights")
        spelt = {to_json(site)[1:-1]: str(weight) for site, weight in weights.items()}
        with self.redis.pipeline() as pipe:
            pipe.delete(key)
            if spelt:
                pipe.hset(key, mapping=spelt)
            pipe.execute()

    def paused_queues(self) -> set[str]:
        """The queues from which no site's job is taken."""
        return {one.queue for one in self.pauses() if one.queue and not one.site}

    def _field(self, pause: Pause) -> str:
        """As the scripts know it: a queue by its name on the broker, a site as JSON spells it."""
        queue = f"{self._settings.bench_id}:{pause.queue}" if pause.queue else ""
        return queue if pause.site is None else f"{queue}|{to_json(pause.site)[1:-1]}"

    def _read(self, field: str, since: str) -> Pause:
        queue, has_site, site = field.partition("|")
        short = queue.removeprefix(f"{self._settings.bench_id}:")
        return Pause(short or None, json.loads(f'"{site}"') if has_site else None, float(since))
