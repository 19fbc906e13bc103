"""Which servers the bench needs, which of them answer, and whether they are safe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from frappe_jobs.brokers.base import Broker
from frappe_jobs.doctor.servers import check_redis
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.ledger.server import RedisServer, look_at, run_of
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.servers.url_options import REDIS_SCHEMES
from frappe_jobs.texts.finding import Finding
from frappe_jobs.texts.masking import masked

#: What a server holds, and what happens if it is away.
MESSAGES, RECORDS, SCHEDULE, RESULTS = "messages", "records", "schedule", "results"
EFFECTS = {
    MESSAGES: "no job can be sent or run",
    RECORDS: "no job can be sent or run",
    SCHEDULE: "no scheduled job is queued",
    RESULTS: "Celery's results are lost",
}


@dataclass
class Reach:
    """What this check-up can reach."""

    #: What servers hold that are away or refuse: MESSAGES, RECORDS, SCHEDULE, RESULTS.
    away: set[str] = field(default_factory=set)
    #: What a server holds, and by how many seconds its clock is ahead of ours.
    ahead: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """What a server holds, its URL, and the setting that names it."""

    role: str
    url: str
    setting: str


def places(settings: SettingsInForce, results: str | None) -> list[Place]:
    """Which server holds what; ``results`` is Celery's ``result_backend``."""
    broker = "celery_broker_url" if settings.celery_broker_url else "redis_queue"
    broker = "the app's broker_url" if settings.is_guest else broker
    records = broker if settings.redis_url == settings.broker_url else "redis_queue"
    schedule = "redbeat_redis_url" if settings.redbeat_redis_url else records
    backend = "celery_result_backend" if settings.celery_result_backend else records
    return [
        Place(MESSAGES, settings.broker_url, broker),
        Place(RECORDS, settings.redis_url, records),
        Place(SCHEDULE, settings.schedule_url, schedule),
        *([Place(RESULTS, results, backend)] if results and "://" in results else ()),
    ]


def check_servers(
    settings: SettingsInForce,
    broker: Broker,
    results: str | None,
    reach: Reach,
    cache: object = None,
) -> Iterator[Finding]:
    """Each server once, whatever it holds; notes in ``reach`` which are away.

    ``cache`` is the URL of Frappe's cache, as it was given.
    """
    cache_run = run_of(cache) if isinstance(cache, str) else None
    by_url: dict[str, list[Place]] = {}
    for place in places(settings, results):
        by_url.setdefault(place.url, []).append(place)
    for url, held in by_url.items():
        if url.partition(":")[0] in REDIS_SCHEMES:
            yield from _redis(url, held, settings.prefix, reach, cache_run)
        elif held[0].role == RESULTS:
            yield Finding("ok", f"Celery's results go to {masked(url)}, which is not checked.")
    if MESSAGES not in reach.away:
        yield from _broker(broker, by_url[settings.broker_url], reach)


def _redis(
    url: str, held: Sequence[Place], prefix: str, reach: Reach, cache_run: str | None
) -> Iterator[Finding]:
    try:
        server = look_at(url, prefix)
    except BrokerUnavailable as error:
        yield _away(str(error), held, reach)
        return
    where = f"Redis at {masked(url)}"
    yield Finding("ok", f"{where} answers: {server.name}, for {_roles(held)}.")
    reach.ahead |= {place.role: server.ahead for place in held}
    if server.refusal:
        reach.away |= {place.role for place in held}
    if [place.role for place in held] != [RESULTS]:
        yield from check_redis(where, server)
        yield from _shared(where, server, _roles(held), cache_run)
    elif server.refusal:
        what = f"{where} refuses, so {EFFECTS[RESULTS]}: {server.refusal}"
        yield Finding("error", what, f"Correct {held[0].setting}, or what its answer names.")


def _shared(
    where: str, server: RedisServer, holds: str, cache_run: str | None
) -> Iterator[Finding]:
    """Frappe empties the whole server of its cache, all databases, as it builds assets."""
    if cache_run and server.info.get("run_id") == cache_run:
        what = (
            f"{where} is Frappe's cache (redis_cache) as well, which bench build empties "
            f"as a whole: the {holds} in it are lost then."
        )
        yield Finding("warning", what, "Start another Redis, and name it in redis_queue.")


def _broker(broker: Broker, held: Sequence[Place], reach: Reach) -> Iterator[Finding]:
    try:
        server = broker.server()
    except BrokerUnavailable as error:
        yield _away(str(error), held, reach)
        return
    where = f"{server.name} at {masked(held[0].url)}"
    if server.alarm:
        reach.away.add(MESSAGES)
        what = f"{where} takes no messages, so no job can be sent: {server.alarm}."
        yield Finding("error", what, "See rabbitmq-diagnostics alarms, and free what is full.")
    elif RECORDS not in [place.role for place in held]:  # else it was looked at as a Redis
        yield Finding("ok", f"{where} answers, for {_roles(held)}.")


def _away(error: str, held: Sequence[Place], reach: Reach) -> Finding:
    reach.away |= {place.role for place in held}
    effects = ", ".join(dict.fromkeys(EFFECTS[place.role] for place in held))
    keys = " or ".join(dict.fromkeys(place.setting for place in held))
    what = f"{error.rstrip('.')}. So {effects}."
    return Finding("error", what, f"Start it, or correct {keys}.")


def _roles(held: Sequence[Place]) -> str:
    *first, last = (place.role for place in held)
    return f"{', '.join(first)} and {last}" if first else last
