"""A thread of a worker or a scheduler that looks at the rules, and says what is to be said.

Nothing waits for it.  One process of the bench looks at a time; any may say what one has found.
"""

from __future__ import annotations

import logging
import threading
import time

from frappe_jobs.alerts.incidents import HOLD, Incidents
from frappe_jobs.alerts.redis_away import RedisAway
from frappe_jobs.alerts.rules import wrong_now
from frappe_jobs.alerts.targets import Deliver, NotDelivered, Notice, in_a_row, in_time, targets_of
from frappe_jobs.errors import BrokerUnavailable, ConfigError
from frappe_jobs.runtime import Runtime

logger = logging.getLogger(__name__)

#: Seconds between two looks.
PACE = 15


def start(here: Runtime, *, is_scheduler: bool = False) -> None:
    """Watch from now on, in a thread; a setting that is wrong is logged, and no reason to end."""
    try:
        watch = Watch(here, is_scheduler=is_scheduler)
    except ConfigError as error:
        logger.error("no alerts: %s", error, extra={"action": "no_alerts"})
        return
    threading.Thread(target=watch.for_ever, daemon=True, name="alerts").start()


class Watch:
    """What one process does for the alerts."""

    def __init__(self, here: Runtime, *, is_scheduler: bool, hold: float = HOLD) -> None:
        self._here, self._is_scheduler, self._hold = here, is_scheduler, hold
        self._targets, self._failures = targets_of(here), in_a_row(here)
        self._incidents = Incidents(here.ledger)
        self._away_since: float | None = None
        # a method of an app needs a worker, and that Redis
        by_itself = [name for name in self._targets if name != "method"]
        self._away = RedisAway(here.settings.sites_path, by_itself)

    def for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(PACE):
            try:
                self.look()
            except Exception:  # whatever went wrong, the next look follows
                logger.exception("the alerts could not be looked at")

    def look(self) -> None:
        """One look, and what is to be said after it."""
        try:
            # a scheduler looks where no worker does, and never in a worker's place
            turn = "alerts" + (":scheduler" if self._is_scheduler else "")
            if self._here.ledger.take_turn(turn, PACE - 1) and self._looks():
                wrong = wrong_now(self._here, self._failures, is_scheduler=self._is_scheduler)
                self._incidents.compare(wrong, [*self._targets], self._hold)
            for name, target, notice in self._incidents.unsaid():
                if target in self._targets and not self._say(target, notice):
                    continue
                self._incidents.said(name)
            self._note_back()
        except BrokerUnavailable as error:
            self._note_away(str(error))

    def _looks(self) -> bool:
        """Whether this process is one to look: a scheduler only while no worker runs."""
        ledger = self._here.ledger
        key = ledger._key("alerts", "worker")
        with ledger.reaching():
            if self._is_scheduler:
                return not ledger.redis.exists(key)
            ledger.redis.set(key, "looks", ex=4 * PACE)
        return True

    def _say(self, target: str, notice: Notice) -> bool:
        """Whether it was delivered."""
        deliver: Deliver = self._targets[target]
        try:
            in_time(deliver, notice)
        except NotDelivered as error:
            logger.error(
                "an alert is said later, as %s does not take it: %s: %s", target, error,
                notice.text, extra={"action": "alert_refused"},
            )  # fmt: skip
            return False
        logger.warning("alert: %s", notice.text, extra={"action": "alert"})
        return True

    # --- Redis away: said once by a machine, and not through Redis

    def _note_away(self, why: str) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since >= self._hold:
            self._away.begins(f"Redis is away: {why} No job is sent or run.", self._say)

    def _note_back(self) -> None:
        self._away_since = None
        self._away.is_over("Over: Redis answers again.", self._say)
