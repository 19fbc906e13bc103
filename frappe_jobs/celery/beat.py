"""The scheduler: RedBeat under Celery beat, with entries of ours.

RedBeat sends each entry by itself, and moves it on before.  Here all that is due is read in one
round trip, queued in batches under a marker for each due time, and moved on afterwards.
"""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

from celery.schedules import BaseSchedule, schedstate
from celery.utils.nodenames import gethostname
from redbeat.schedulers import RedBeatScheduler, RedBeatSchedulerEntry

from frappe_jobs.alive.signs import INTERVAL, SCHEDULER, Sign
from frappe_jobs.celery.apart import Apart
from frappe_jobs.celery.apps import runtime_of
from frappe_jobs.cron import UTC
from frappe_jobs.errors import BrokerError, shortened
from frappe_jobs.runtime import Runtime, load
from frappe_jobs.scheduler.entry import Entry
from frappe_jobs.scheduler.retention import clear_old_records
from frappe_jobs.scheduler.timetable import Look
from frappe_jobs.servers.clock import BOUND, Watch

logger = logging.getLogger(__name__)

#: Seconds between two looks at most: a change is in force within them.
LOOK = 2.0

#: Seconds between two comparisons of the entries with the sites' records.
COMPARE = 300.0

#: Seconds between two clearings of old records.
DAY = 24 * 3600

#: How many of the entries that are taken out at once are logged by name.
TOLD = 10


class BenchSchedule(BaseSchedule):  # type: ignore[misc]
    """When a scheduled job is due, for tools that read RedBeat's entries."""

    def __init__(self, entry: Entry, app: Any = None) -> None:
        super().__init__(app=app)
        self.entry = entry

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return self.entry.next_run(last_run_at) - datetime.now(UTC)

    def is_due(self, last_run_at: datetime) -> schedstate:
        left = self.remaining_estimate(last_run_at).total_seconds()
        return schedstate(left <= 0, max(left, 0))

    def __repr__(self) -> str:
        schedule = self.entry.schedule
        return f"<{schedule.expression or f'every {schedule.every} s'} in {self.entry.zone}>"


class BenchEntry(RedBeatSchedulerEntry):  # type: ignore[misc]
    """RedBeat's entry in our form: RedBeat's own tools list and read it, only ours change it."""

    @staticmethod
    def decode_definition(text: str) -> dict[str, Any]:
        definition: dict[str, Any] = json.loads(text)
        return definition | {"schedule": BenchSchedule(Entry.from_json(text))}

    @staticmethod
    def load_definition(key: str, app: Any = None, definition: str | None = None) -> dict[str, Any]:
        return BenchEntry.decode_definition(str(definition))

    def save(self) -> BenchEntry:
        raise TypeError("The entries are made from the Scheduled Job Types: change those.")


class BenchScheduler(RedBeatScheduler):  # type: ignore[misc]
    """Leads, or stands by; queues what is due."""

    Entry = BenchEntry

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.max_interval = LOOK
        self.lock_key = None  # RedBeat would wait for its lock its own way, and end without it
        self.token = f"{gethostname()}/{os.getpid()}/{uuid4().hex[:8]}"
        self._leads: bool | None = None
        self._is_idle = False
        self._refusal = ""
        self._watch = Watch()
        self._differs = False
        self._doubts = False
        self._compared = -COMPARE
        self._comparing: Apart | None = None
        self._is_watching = False
        self._signed, self._unseen = -INTERVAL, ""

    def setup_schedule(self) -> None:
        """Nothing: the entries come from the sites' records."""

    @cached_property
    def _runtime(self) -> Runtime:
        return runtime_of(self.app)

    @cached_property
    def _sign(self) -> Sign:
        return Sign(self._runtime.settings.sites_path, SCHEDULER, name=self.token)

    @cached_property
    def _pause(self) -> float:
        """Seconds between two looks at most."""
        return min(LOOK, float(self._runtime.settings.scheduler_lock) / 3)

    @cached_property
    def _lock(self) -> float:
        """Seconds for which a look makes it lead: the others may look a pause later."""
        return float(self._runtime.settings.scheduler_lock - self._pause)

    def tick(self, *_: Any, **__: Any) -> float:
        """Queue some of what is due; gives the seconds until the next look."""
        self._begin_to_watch()
        try:
            wait = self._tick()
        except BrokerError as error:
            self._note_refusal(str(error))
            wait = LOOK
        except Exception:  # whatever went wrong, the next look follows
            logger.exception("nothing could be queued at this look; the next one follows")
            return LOOK
        else:
            self._note_refusal("")
        self._give_a_sign()
        return wait

    def _give_a_sign(self) -> None:
        """For health probes on this machine."""
        if time.monotonic() - self._signed < INTERVAL / 2:
            return
        self._signed = time.monotonic()
        try:
            self._sign.give(self._refusal, "leads" if self._leads else "stands by")
        except OSError as error:
            said = f"{error.filename}: {error.strerror}"
            if said != self._unseen:
                self._unseen = said
                logger.warning("health probes do not see this scheduler: %s", said)

    def _begin_to_watch(self) -> None:
        """Look after the alerts as well, in a thread: there may be no worker that does."""
        if not self._is_watching:
            self._is_watching = True
            if self._runtime.settings.alerts:
                load("alerts")(self._runtime, is_scheduler=True)

    def _note_refusal(self, said: str) -> None:
        """Say why nothing can be queued, whenever that changes, and when it can again."""
        if said == self._refusal:
            return
        self._refusal = said
        if said:
            logger.error(
                "nothing can be queued: %s; this scheduler waits, and tries again", said,
                extra={"action": "broker_refuses"},
            )  # fmt: skip
        else:
            logger.warning("the schedule goes on", extra={"action": "broker_is_back"})

    def _tick(self) -> float:
        look = self._runtime.timetable.look(self.token, self._lock, clock=time.time())
        looked = time.monotonic()
        if not look.leads:
            self._note(look)
            return self._pause
        if not self._believes(look, looked):
            return min(1.0, self._pause)
        self._note(look)
        self._note_what_is_wrong(look)
        if not self._is_comparing and time.monotonic() - self._compared > COMPARE:
            self._compare(look.now)
        if look.due:
            self._runtime.timetable.move(self._runtime.scheduling.queue_due(look.due, look.now))
            return 0.0  # there may be more
        wait = LOOK if look.next_at is None else look.next_at - look.now
        return max(0.0, min(wait - (time.monotonic() - looked), self._pause))

    def _believes(self, look: Look, looked: float) -> bool:
        """Whether to trust Redis's clock, by which jobs are due; each oddity is logged once."""
        own = time.time()
        believes = self._watch.believes(look.now, wall=own, steady=looked)
        if not believes and not self._doubts:
            logger.error(
                "Redis's clock has jumped by %.0f s: nothing is queued until it is right again, or "
                "seems to be meant", self._watch.jump, extra={"action": "clock_jumped"},
            )  # fmt: skip
        self._doubts = not believes
        differs = abs(own - look.now) > BOUND
        if differs and believes and not self._differs:
            logger.warning(
                "this machine's clock is %.0f s %s Redis's, by which jobs are due",
                abs(own - look.now), "ahead of" if own > look.now else "behind",
                extra={"action": "clocks_differ"},
            )  # fmt: skip
        self._differs = differs
        return believes

    def _note_what_is_wrong(self, look: Look) -> None:
        """Compare all entries if Redis was not as a scheduler leaves it; say what was wrong."""
        was_set_back = look.last is not None and look.now < look.last - 1.0
        if look.is_new or was_set_back or look.taken_out or look.wrong:
            self._compared = -COMPARE  # even if a comparison runs, which began before
        if was_set_back:
            logger.warning(
                "Redis's clock was set back: all due times are checked",
                extra={"action": "clock_set_back"},
            )
        for key in look.wrong:
            logger.error("%s held something else, and is made anew", shortened(key))
        for entry in look.taken_out[:TOLD]:
            logger.error(
                "an entry of the schedule is taken out, and made anew from its record: %s: %s",
                shortened(entry.key), entry.why, extra={"action": "entry_taken_out"},
            )  # fmt: skip
        if len(look.taken_out) > TOLD:
            logger.error("and %s more entries", len(look.taken_out) - TOLD)

    def _note(self, look: Look) -> None:
        """Say who leads, and that there is nothing to do, whenever that changes."""
        if look.leads != self._leads:
            self._leads = look.leads
            text, action = (
                ("this scheduler leads", "scheduler_leads")
                if look.leads
                else ("another scheduler leads; this scheduler stands by", "scheduler_waits")
            )
            logger.info(text, extra={"action": action})
        is_idle = look.leads and not look.due and look.next_at is None
        if is_idle and not self._is_idle and not self._is_comparing:
            logger.warning(
                "nothing is scheduled: no site has a scheduled job that runs; see 'frappe-jobs "
                "migrate'",
                extra={"action": "scheduler_idle"},
            )
        self._is_idle = is_idle and not self._is_comparing

    def _compare(self, now: float) -> None:
        """Bring the entries in line with the records, in a process of its own.

        That imports the modules of all scheduled methods, to see whether they exist: an app like
        ERPNext has more of them than a scheduler's whole memory.
        """
        self._compared = time.monotonic()
        self._comparing = Apart(lambda: self._compare_all(now))
        self._comparing.start()

    @property
    def _is_comparing(self) -> bool:
        return self._comparing is not None and self._comparing.is_alive()

    def _compare_all(self, now: float) -> None:
        """Compare; and once a day, as the sites are visited anyway, delete their old records.

        By the slower of two clocks: a clock that is ahead would call new records old.
        """
        runtime, today = self._runtime, datetime.fromtimestamp(min(now, time.time()), UTC)
        try:
            runtime.sync.compare()
            runtime.relay.visit_all()
            if runtime.ledger.take_turn("clear", DAY):
                clear_old_records(runtime.settings, runtime.host, runtime.task_upkeep, today)
        except BrokerError as error:
            logger.error("the entries cannot be compared with the records: %s", error)
        except Exception:  # whatever a site's database does, the schedule goes on
            logger.exception("the entries cannot be compared with the records")

    def close(self) -> None:
        try:
            self._runtime.timetable.let_go(self.token)
        except BrokerError:  # the lock runs out by itself
            pass
        self._sign.leave()
        super().close()
