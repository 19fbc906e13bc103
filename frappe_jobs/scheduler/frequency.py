"""Frappe's frequencies: when their jobs are due, and in which queue they run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from frappe_jobs.cron import NAMED, UTC, check, comes_every_hour, first_coming, instant, next_run
from frappe_jobs.errors import ConfigError, UnknownFrequency, shortened

#: Seconds; an interval longer than any day means each midnight.
LONGEST_STEP = 2 * 24 * 3600


@dataclass(frozen=True)
class Frequency:
    """A frequency: its name in records, when its jobs are due, and their queue."""

    name: str
    #: Empty for All (made from ``scheduler_interval``) and Cron (the record's own).
    expression: str
    queue: str = "default"


_TABLE = [
    Frequency("All", ""),
    *(Frequency(event.title(), text) for event, text in NAMED.items()),
    *(Frequency(f"{event.title()} Long", text, "long") for event, text in NAMED.items()),
    Frequency("Hourly Maintenance", NAMED["hourly"], "long"),
    Frequency("Daily Maintenance", NAMED["daily"], "long"),
    Frequency("Cron", ""),
]
#: By the event's name in ``scheduler_events``: ``hourly_long``.
FREQUENCIES = {item.name.lower().replace(" ", "_"): item for item in _TABLE}


def frequency_named(name: str) -> Frequency:
    """The frequency by its event's name or the record's: ``hourly_long`` or ``Hourly Long``.

    Raises UnknownFrequency.
    """
    try:
        return FREQUENCIES[name.lower().replace(" ", "_")]
    except (KeyError, AttributeError):
        raise UnknownFrequency.named(name, FREQUENCIES) from None


def queue_of(frequency: str) -> str:
    """The queue in which Frappe puts jobs of that frequency; raises UnknownFrequency."""
    return frequency_named(frequency).queue


def offset_of(frequency: str, site: str, method: str) -> int:
    """Seconds by which a job runs later than its frequency says; the same on every machine.

    ``Long`` jobs by 1 to 600 s, computed from site and method, so that they do not all begin at
    once; ``Maintenance`` jobs by 0 to 59 minutes, computed from the site as Frappe does: a site's
    come together.
    """
    if frequency.endswith(" Long"):
        return 1 + _hash(f"{site}:{method}") % 600
    if frequency.endswith(" Maintenance"):
        digest = hashlib.sha1(site.encode(), usedforsecurity=False).hexdigest()
        return 60 * (int(digest, 16) % 60)
    return 0


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Schedule:
    """When a job is due: by a cron expression, or every ``every`` seconds from midnight on."""

    expression: str = ""
    #: Seconds by which it is due later than the expression says.
    offset: int = 0
    #: Seconds, counted from each day's midnight; only without an expression.
    every: int = 0

    @classmethod
    def of(
        cls,
        frequency: str,
        method: str,
        site: str,
        *,
        cron_format: str = "",
        interval: object = 240,
        spreads_long: bool = True,
    ) -> Schedule:
        """The schedule of a job, as its record says.

        As in Frappe a ``cron_format`` wins over the frequency's own expression.  ``interval`` is
        the setting ``scheduler_interval``, for All: whole minutes become ``*/n * * * *`` as in
        Frappe, so they begin anew with each hour.  Without ``spreads_long`` the ``Long`` jobs come
        on the minute.  Raises UnknownFrequency, BadCron, and ConfigError for a wrong interval.
        """
        known = frequency_named(frequency)
        if known.name == "All" and not cron_format:
            return cls._every(interval)
        expression = cron_format or known.expression
        check(expression)
        is_spread = spreads_long or not known.name.endswith(" Long")
        return cls(expression, offset_of(known.name, site, method) if is_spread else 0)

    @classmethod
    def _every(cls, interval: object) -> Schedule:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ConfigError(
                f"'scheduler_interval' is {shortened(interval)}; legal: a whole number of seconds, "
                "1 or more. Set it in common_site_config.json."
            )
        minutes, rest = divmod(interval, 60)
        return cls(every=interval) if rest else cls(f"*/{minutes} * * * *")

    @property
    def comes_again(self) -> bool:
        """Whether it is due twice at a time that clocks show twice, because every hour counts."""
        return bool(self.every) or comes_every_hour(self.expression)

    def next_run(self, after: datetime, zone: ZoneInfo) -> datetime:
        """The first time strictly after ``after`` at which the job is due, in that zone.

        The offset is real time: the job comes that many seconds after the expression's time, even
        if the clocks change in between.
        """
        if self.every:
            return _from_midnight(self.every, instant(after, zone), zone).astimezone(zone)
        offset = timedelta(seconds=self.offset)
        due = next_run(self.expression, instant(after, zone) - offset, zone)
        return (due.astimezone(UTC) + offset).astimezone(zone)


def _from_midnight(seconds: int, start: datetime, zone: tzinfo) -> datetime:
    midnight = datetime.combine(start.astimezone(zone), time())
    begin, end = first_coming(midnight, zone), first_coming(midnight + timedelta(days=1), zone)
    step = timedelta(seconds=min(seconds, LONGEST_STEP))
    return min(begin + ((start - begin) // step + 1) * step, end)
