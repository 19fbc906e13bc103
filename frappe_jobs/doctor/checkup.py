"""A check-up: every subject is checked, as far as the servers that it needs can be reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from frappe_jobs.alive.code import on_disk
from frappe_jobs.brokers.base import Broker
from frappe_jobs.doctor.beside_rq import check_beside_rq
from frappe_jobs.doctor.configuration import (
    check_alerts,
    check_configuration,
    check_guest,
    check_limits,
)
from frappe_jobs.doctor.jobs import check_failed, check_kept_aside, check_lost, check_running
from frappe_jobs.doctor.outboxes import check_outboxes
from frappe_jobs.doctor.reach import MESSAGES, RECORDS, SCHEDULE, Reach, check_servers
from frappe_jobs.doctor.schedule import (
    check_inactive,
    check_overdue,
    check_scheduler,
    check_strangers,
    check_strays,
)
from frappe_jobs.doctor.sites import Sites, check_sites, look_at_sites
from frappe_jobs.doctor.versions import check_versions
from frappe_jobs.doctor.workers import (
    check_clocks,
    check_code,
    check_due,
    check_pauses,
    check_queues,
    check_sisters,
    check_workers,
)
from frappe_jobs.errors import BrokerUnavailable, FrappeJobsError
from frappe_jobs.host.port import Host
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.listing import Listing
from frappe_jobs.ledger.record import STARTED, Record
from frappe_jobs.ledger.sisters import sisters
from frappe_jobs.outbox.relay import Relay
from frappe_jobs.scheduler.queueing import Scheduling
from frappe_jobs.scheduler.strangers import remove_strangers, strangers
from frappe_jobs.scheduler.sync import Sync
from frappe_jobs.scheduler.timetable import Timetable
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sweep import gone, lost_after, send_again
from frappe_jobs.texts.finding import Finding

#: At most this many jobs of each queue are checked, those that have waited longest.
LIMIT = 1000

DAY = 24 * 3600


@dataclass(frozen=True)
class Parts:
    """What a check-up needs."""

    settings: SettingsInForce
    host: Host
    broker: Broker
    ledger: Ledger
    timetable: Timetable
    sync: Sync
    scheduling: Scheduling
    relay: Relay
    #: Celery's ``result_backend``.
    results: str | None
    #: On a Frappe bench: where its jobs go, ``on`` (Celery), ``off`` or ``undecided`` (RQ).
    use_celery: Callable[[], str] | None = None
    #: There as well: what keeps these sites' processes from sending jobs to Celery.
    way_in_faults: Callable[[Iterable[str]], Iterable[str]] = lambda sites: ()
    #: The names of the targets of alerts; raises ConfigError.  None: there are to be none.
    alerts: Callable[[], Sequence[str]] | None = None


class Checkup:
    """Checks a bench and these sites; all sites unless named."""

    def __init__(self, parts: Parts, sites: Sequence[str] | None = None) -> None:
        self._parts, self._named = parts, sites
        self._sites = [*(parts.host.sites() if sites is None else sites)]
        self._reach = Reach()
        #: Whose clock is ahead of ours, and by how many seconds.
        self._clocks = {"this machine": 0.0}
        #: How many workers of ours answered; None before they were asked.
        self._online: int | None = None

    def findings(self) -> Iterator[Finding]:
        """The findings, subject by subject."""
        yield from self._guarded("The configuration", self.configuration)
        yield from self._guarded("The servers", self.servers)
        yield from self._guarded("Workers and queues", self.workers, MESSAGES, RECORDS)
        yield from self._guarded("Jobs of a bench that was moved", self.moved, MESSAGES, RECORDS)
        yield from self._guarded("What runs beside RQ", self.beside_rq)
        yield from self._guarded("Jobs", self.jobs, RECORDS)
        yield from self._guarded("Sites", self.schedule)
        yield from self._guarded("Clocks", self.clocks, RECORDS)

    def between_rq_and_celery(self) -> Iterator[Finding]:
        """Where a Frappe bench's jobs go, whose workers run, and whether the servers answer.

        Only what is wrong; of the servers only errors.
        """
        servers = [*self._guarded("The servers", self.servers)]
        yield from (finding for finding in servers if finding.level == "error")
        for what, check in (
            ("Workers and queues", self.workers), ("What runs beside RQ", self.beside_rq)
        ):  # fmt: skip
            found = self._guarded(what, check, MESSAGES, RECORDS)
            yield from (finding for finding in found if finding.level != "ok")

    def _guarded(
        self, what: str, check: Callable[[], Iterator[Finding]], *needs: str
    ) -> Iterator[Finding]:
        if missing := [need for need in needs if need in self._reach.away]:
            holds = " and ".join(missing)
            text = f"{what} were not checked: the server with the {holds} is away or refuses."
            yield Finding("warning", text)
            return
        try:
            yield from check()
        except FrappeJobsError as error:
            yield Finding("error", f"{what} cannot be checked: {error}")
        except Exception as error:  # whatever it is, the other subjects are checked
            text = f"{what} cannot be checked: {type(error).__name__}: {error}"
            yield Finding("error", text, "See whether this is a known fault of frappe_jobs.")

    def configuration(self) -> Iterator[Finding]:
        yield from check_configuration(self._parts.settings, self._sites)
        yield from check_alerts(self._parts.alerts)
        yield from check_limits(self._parts.settings)
        yield from check_versions(self._parts.use_celery is not None)
        yield from check_guest(self._parts.settings, self._parts.broker)

    def servers(self) -> Iterator[Finding]:
        parts = self._parts
        cache = parts.settings.redis_cache if parts.use_celery else None
        yield from check_servers(parts.settings, parts.broker, parts.results, self._reach, cache)

    def workers(self) -> Iterator[Finding]:
        settings, broker, ledger = self._parts.settings, self._parts.broker, self._parts.ledger
        online = broker.workers()
        self._online = len(online)
        self._clocks |= {f"the worker {worker.name}": worker.ahead for worker in online}
        queues = settings.queues
        waiting = {queue: max(broker.depth(queue), ledger.waiting(queue)) for queue in queues}
        overdue = ledger.count_overdue()
        if not (self._is_on_celery() or online or overdue or any(waiting.values())):
            return
        yield from check_workers(settings, online, waiting)
        yield from check_pauses(ledger.pauses(), waiting, time.time())
        yield from check_code(online, lambda: on_disk(settings.sites.apps()))
        now = time.time()
        suspects = chain.from_iterable(self._suspects(now - settings.lease, now))
        yield from check_queues(settings, waiting, suspects, now)
        yield from check_due(overdue)

    def _is_on_celery(self) -> bool:
        """False: it is no finding that our workers and scheduler do not run."""
        return self._parts.use_celery is None or self._parts.use_celery() == "on"

    def moved(self) -> Iterator[Finding]:
        parts = self._parts
        if found := sisters(parts.ledger, parts.settings, self._sites):
            yield from check_sisters(parts.settings, found, parts.broker.served())

    def beside_rq(self) -> Iterator[Finding]:
        parts = self._parts
        if parts.use_celery:
            state = parts.use_celery()
            faults = [*parts.way_in_faults(self._sites)] if state == "on" else []
            yield from check_beside_rq(
                parts.settings, parts.host, self._sites, state, self._online, faults
            )

    def jobs(self) -> Iterator[Finding]:
        parts, now = self._parts, time.time()
        ledger, settings = parts.ledger, parts.settings
        listing = Listing(ledger, settings)
        unsent = self._mine(ledger.unsent(now - settings.lease))
        never_sent = {record.message.id for record in unsent}
        lost = [record for record in self._lost(now) if record.message.id not in never_sent]
        yield from check_lost(settings.claim_ttl, parts.broker, lost, unsent, self._send_again)
        known = never_sent.union(record.message.id for record in lost)
        started = ledger.suspects((), waiting_since=now - settings.lease, looked_for=now)
        orphans = [record for record in self._mine(started) if record.message.id not in known]
        running = self._mine(listing.running())
        yield from check_running(settings, running, orphans, now)
        yield from check_failed(self._mine(listing.failed_since(now - DAY)), self._sites)
        yield from check_kept_aside(ledger.kept_aside(), now)

    def _suspects(self, since: float, looked_for: float) -> Iterator[list[Record]]:
        """The jobs that have waited, or have had no lease, since then.

        Queue by queue, as those of all together may be very many.
        """
        ledger, queues = self._parts.ledger, self._parts.settings.queues
        for some in ((), *((queue,) for queue in queues)):
            found = ledger.suspects(some, waiting_since=since, looked_for=looked_for, limit=LIMIT)
            yield [one for one in found if (one.status == STARTED) == (not some)]

    def _lost(self, now: float) -> list[Record]:
        settings, ledger, broker = self._parts.settings, self._parts.ledger, self._parts.broker
        since, looked_for = now - settings.lease, now
        if not broker.is_searchable:  # jobs count as lost there until they were sent again
            since = looked_for = now - lost_after(settings, broker)
        suspects = self._suspects(since, looked_for)
        return [*chain.from_iterable(gone(ledger, broker, self._mine(some)) for some in suspects)]

    def _send_again(self, lost: Sequence[Record]) -> None:
        if MESSAGES in self._reach.away:
            raise BrokerUnavailable("the broker refuses")
        send_again(self._parts.ledger, self._parts.broker, lost)
        self._parts.ledger.looked_for([record.message for record in lost], time.time())

    def _mine(self, records: Iterable[Record]) -> list[Record]:
        """The records of the sites that were named."""
        named = self._named
        return [record for record in records if named is None or record.message.site in named]

    def schedule(self) -> Iterator[Finding]:
        parts, with_entries = self._parts, SCHEDULE not in self._reach.away
        now = time.time()
        unsent = None if RECORDS in self._reach.away else partial(parts.relay.unsent, now=now)
        found = look_at_sites(
            self._sites, parts.host, parts.sync, parts.scheduling, unsent, with_entries=with_entries
        )
        yield from check_sites(found, parts.sync.compare)
        outboxes = {site: one.outbox for site, one in found.reports.items() if one.outbox}
        yield from check_outboxes(
            parts.settings, outboxes, parts.host.outbox.table, self._send_outboxes, now
        )
        yield from check_inactive(found)
        if with_entries:
            yield from self._scheduler(found.active)
        else:
            yield Finding("warning", "The scheduler was not checked: the schedule's Redis is away.")

    def _send_outboxes(self, sites: Sequence[str]) -> None:
        if MESSAGES in self._reach.away:
            raise BrokerUnavailable("the broker takes nothing")
        for site in sites:
            with self._parts.host.session(site):
                self._parts.relay.look()

    def _scheduler(self, active: Sites) -> Iterator[Finding]:
        timetable, now = self._parts.timetable, time.time()
        leader, last, ahead = timetable.leader(), timetable.last_look(), self._reach.ahead
        there = now + ahead.get(SCHEDULE, 0.0)
        if leader or self._is_on_celery():
            yield from check_scheduler(leader, last, active, there)
        if leader:
            yield from check_overdue(self._parts.settings, active, there)
            if last:
                clock = last.clock - last.at + ahead.get(SCHEDULE, 0.0)
                self._clocks[f"the scheduler {leader}"] = clock
        if self._named is None:
            yield from check_strangers(strangers(timetable), self._remove_strangers)
            strays = sorted(timetable.sites().difference(self._sites))
            yield from check_strays(strays, self._parts.sync.compare)

    def _remove_strangers(self) -> None:
        remove_strangers(self._parts.timetable)
        self._parts.sync.compare()

    def clocks(self) -> Iterator[Finding]:
        redis = self._reach.ahead.get(RECORDS, 0.0)
        yield from check_clocks(self._parts.settings.lease, redis, self._clocks)
