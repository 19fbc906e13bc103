"""Jobs that are sent when a transaction commits, each a row of it until then."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import BrokerError, FrappeJobsError
from frappe_jobs.host.outbox import Row
from frappe_jobs.host.port import Host
from frappe_jobs.host.session import Session
from frappe_jobs.ledger import Ledger
from frappe_jobs.message import Sending
from frappe_jobs.outbox.notes import Notes
from frappe_jobs.outbox.sending import CANCELLED_BEFORE, Outcomes, Told, send
from frappe_jobs.outbox.told_later import OpenNote, ToldLater

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Waiting:
    """What one call wants sent."""

    session: Session
    sendings: Sequence[Sending]
    told: Told | None
    #: Whether they can be rows of the transaction.
    is_kept: bool
    #: The transaction's, once they are.
    note: OpenNote | None = None


class AtCommit:
    """Writes the rows before the commit, and sends the jobs after it, those of it in one batch."""

    def __init__(
        self, settings: Settings, host: Host, ledger: Ledger, dispatcher: Dispatcher
    ) -> None:
        self._settings, self._host = settings, host
        self._ledger, self._dispatcher = ledger, dispatcher
        self._told = ToldLater(Notes(ledger))

    def send(self, sendings: Sequence[Sending], session: Session, told: Told | None = None) -> None:
        """Send them when the session's transaction commits, in order; never if it rolls back.

        What cannot be sent then is sent later, from the rows, and nothing is raised.  Without rows
        (the setting, a database that is not the site's) it is never sent, and the error leaves
        through the commit, whose work is done.
        """
        if sendings:
            is_kept = self._settings.outbox and self._host.outbox.make_ready(session)
            session.wait_for_commit(self, Waiting(session, sendings, told, is_kept))

    def tell_now(self) -> None:
        """Tell Redis what is settled before this process ends; a thread does so as a rule."""
        self._told.tell_now()

    # --- just before the commit

    def before(self, things: Sequence[Waiting]) -> None:
        for site, group in groupby(things, lambda one: one.session.site):
            if kept := [one for one in group if one.is_kept and not one.note]:
                self._write(site, kept)

    def _write(self, site: str, things: Sequence[Waiting]) -> None:
        messages = [
            (sending.message, sending.claim) for one in things for sending in one.sendings
        ]  # fmt: skip
        note = self._told.join(site, dict.fromkeys(one.queue for one, _ in messages))
        now = time.time()
        rows = [
            Row(
                one.id, note.note.id, self._settings.bench_id, site, one.to_json(), claim, now
            )  # fmt: skip
            for one, claim in messages
        ]
        self._host.outbox.add(things[0].session, rows)
        for thing in things:
            thing.note = note
            thing.sendings = [replace(one, has_row=True) for one in thing.sendings]

    # --- once it has committed

    def after(self, things: Sequence[Waiting]) -> None:
        if kept := [one for one in things if one.note]:
            self._send_kept(kept)
        errors = [self._send_once(one) for one in things if not one.note]
        if error := next(filter(None, errors), None):
            raise error

    def _send_kept(self, things: Sequence[Waiting]) -> None:
        sendings = [one for thing in things for one in thing.sendings]
        outcomes, error = self._send(sendings)
        if error:
            logger.warning(
                "%s jobs that were committed on %s are sent later: %s",
                len(sendings) - len(outcomes), things[0].session.site, error,
                extra={"action": "jobs_sent_later", "jobs": len(sendings) - len(outcomes)},
            )  # fmt: skip
        notes = {thing.note for thing in things if thing.note}
        for thing in things:
            if any(one.message.id not in outcomes for one in thing.sendings):
                notes.discard(thing.note)
            _tell(thing, outcomes, error)
        for note in notes:
            self._told.settle(note)

    def _send_once(self, thing: Waiting) -> FrappeJobsError | None:
        outcomes, error = self._send(thing.sendings)
        _tell(thing, outcomes, error)
        return error

    def _send(self, sendings: Sequence[Sending]) -> tuple[Outcomes, FrappeJobsError | None]:
        tracked = [one.message for one in sendings if one.message.task_id]
        try:
            buried = self._ledger.buried(tracked) if tracked else set()
        except BrokerError as error:
            return {}, error
        left = [one for one in sendings if one.message.id not in buried]
        sent, why = send(self._dispatcher, left)
        return {**dict.fromkeys(buried, CANCELLED_BEFORE), **sent}, why


def _tell(thing: Waiting, outcomes: Outcomes, error: FrappeJobsError | None) -> None:
    if thing.told is None:
        return
    ids = [one.message.id for one in thing.sendings]
    its = {one: outcomes[one] for one in ids if one in outcomes}
    thing.told(its, error, thing.note is not None)
