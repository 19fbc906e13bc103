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
    """What a call of ``AtCommit.send`` wants sent."""

    session: Session
    sendings: Sequence[Sending]
    told: Told | None
    #: Whether they can be rows of the transaction.
    is_kept: bool
    #: The transaction's note, once its rows are written.
    note: OpenNote | None = None


class AtCommit:
    """Writes the rows before a commit, and sends their jobs after it, in one batch."""

    def __init__(
        self, settings: Settings, host: Host, ledger: Ledger, dispatcher: Dispatcher
    ) -> None:
        self._settings, self._host = settings, host
        self._ledger, self._dispatcher = ledger, dispatcher
        self._told = ToldLater(Notes(ledger))

    def send(self, sendings: Sequence[Sending], session: Session, told: Told | None = None) -> None:
        """Send them when the session's transaction commits, in order; never if it rolls back.

        Jobs that cannot be sent then are sent later, from their rows, and nothing is raised.
        Without rows (the setting, a database that is not the site's) they are never sent, and the
        error is raised by the commit, whose work is done.
        """
        if sendings:
            is_kept = self._settings.outbox and self._host.outbox.make_ready(session)
            session.wait_for_commit(self, Waiting(session, sendings, told, is_kept))

    def tell_now(self) -> None:
        """Tell Redis what is settled, before this process ends; else a thread does it."""
        self._told.tell_now()

    # --- just before the commit

    def before(self, things: Sequence[Waiting]) -> None:
        for site, calls in groupby(things, lambda call: call.session.site):
            if kept := [call for call in calls if call.is_kept and not call.note]:
                self._write(site, kept)

    def _write(self, site: str, calls: Sequence[Waiting]) -> None:
        sendings = [sent for call in calls for sent in call.sendings]
        shared = self._told.join(site, dict.fromkeys(sent.message.queue for sent in sendings))
        note, bench_id, now = shared.note.id, self._settings.bench_id, time.time()
        rows = [
            Row(sent.message.id, note, bench_id, site, sent.to_json(), sent.claim, now)
            for sent in sendings
        ]
        self._host.outbox.add(calls[0].session, rows)
        for call in calls:
            call.note = shared
            call.sendings = [replace(sending, has_row=True) for sending in call.sendings]

    # --- once it has committed

    def after(self, things: Sequence[Waiting]) -> None:
        if kept := [call for call in things if call.note]:
            self._send_kept(kept)
        errors = [self._send_once(call) for call in things if not call.note]
        if error := next(filter(None, errors), None):
            raise error

    def _send_kept(self, calls: Sequence[Waiting]) -> None:
        sendings = [sending for call in calls for sending in call.sendings]
        outcomes, error = self._send(sendings)
        if error:
            logger.warning(
                "%s jobs that were committed on %s are sent later: %s",
                len(sendings) - len(outcomes), calls[0].session.site, error,
                extra={"action": "jobs_sent_later", "jobs": len(sendings) - len(outcomes)},
            )  # fmt: skip
        notes = {call.note for call in calls if call.note}
        for call in calls:
            if any(sending.message.id not in outcomes for sending in call.sendings):
                notes.discard(call.note)
            _tell(call, outcomes, error)
        for note in notes:
            self._told.settle(note)

    def _send_once(self, call: Waiting) -> FrappeJobsError | None:
        outcomes, error = self._send(call.sendings)
        _tell(call, outcomes, error)
        return error

    def _send(self, sendings: Sequence[Sending]) -> tuple[Outcomes, FrappeJobsError | None]:
        tracked = [sending.message for sending in sendings if sending.message.task_id]
        try:
            buried = self._ledger.buried(tracked) if tracked else set()
        except BrokerError as error:
            return {}, error
        left = [sending for sending in sendings if sending.message.id not in buried]
        sent, why = send(self._dispatcher, left)
        return {**dict.fromkeys(buried, CANCELLED_BEFORE), **sent}, why


def _tell(call: Waiting, outcomes: Outcomes, error: FrappeJobsError | None) -> None:
    if call.told:
        ids = {sending.message.id for sending in call.sendings}
        its = {message_id: known for message_id, known in outcomes.items() if message_id in ids}
        call.told(its, error, call.note is not None)
