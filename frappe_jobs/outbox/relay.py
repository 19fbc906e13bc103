"""Jobs that were committed and never sent are sent from their rows; rows of sent jobs are deleted.

The worker that sweeps looks at the notes, and asks for a look at sites whose notes have waited too
long: as a rule there are none.  The scheduler, which visits all sites anyway, leaves notes for rows
of which Redis knows nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings
from frappe_jobs.dispatch import Dispatcher
from frappe_jobs.errors import (
    BadMessage,
    BrokerError,
    BrokerUnavailable,
    FrappeJobsError,
    shortened,
)
from frappe_jobs.host.outbox import Row
from frappe_jobs.host.own_methods import RELAY_OUTBOX
from frappe_jobs.host.port import ADMINISTRATOR, Host
from frappe_jobs.host.session import Session
from frappe_jobs.job import Follower
from frappe_jobs.ledger import Ledger
from frappe_jobs.ledger.record import Record
from frappe_jobs.ledger.tombstones import AFTER_A_RUN
from frappe_jobs.message import Message, Sending, new_id
from frappe_jobs.outbox.notes import FIRST_LOOK, FORGOTTEN, Note, Notes
from frappe_jobs.outbox.sending import CANCELLED_BEFORE, send

logger = logging.getLogger(__name__)

#: Seconds for a process to send what it has committed.
GRACE = 2.0
#: Seconds after which a row is not sent any more: it came back with a backup, and no tombstone
#: tells whether its job has run.
TOO_OLD = AFTER_A_RUN
#: Rows looked at, and deleted, in one transaction.
PAGE = 500
#: How many of the oldest rows are looked at for people.
SHOWN = 1_000
#: Seconds after which rows of sent jobs are deleted; the scheduler does so earlier.
CLEARED = 600.0


#: The note of rows whose own notes are lost.
FOUND = "found"


@dataclass
class Look:
    """What was seen of a site's outbox."""

    #: Rows that are still to be sent.
    waiting: list[Row] = field(default_factory=list)
    #: Rows that are never sent: they came with a backup, or a copy of another site.
    strange: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Sorted:
    """Rows by what has become of their jobs."""

    #: The ids of messages for which nothing is left to be done.
    done: set[str]
    #: Messages that have a tombstone.
    buried: Sequence[Message]
    #: Records of messages that nobody has noted as sent, and when they were written.
    unsent: Sequence[tuple[Record, float]]
    #: Messages by id that can be read, and of which nobody knows.
    new: Mapping[str, Message]


class Relay:
    """Sends what is left in the sites' outboxes."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        broker: Broker,
        ledger: Ledger,
        dispatcher: Dispatcher,
        follower: Follower,
    ) -> None:
        self._settings, self._host, self._broker = settings, host, broker
        self._ledger, self._dispatcher, self._follower = ledger, dispatcher, follower
        self._notes = Notes(ledger)

    # --- where the workers sweep, and no site's database is opened

    def have_sites_looked_at(self, now: float) -> list[str]:
        """Ask workers to look at the sites whose notes have waited too long; gives those sites.

        Raises BrokerUnavailable.
        """
        by_site: dict[str, list[Note]] = {}
        for note in self._notes.due(now):
            by_site.setdefault(note.site, []).append(note)
        known = {*self._host.sites()} if by_site else set()
        asked = []
        for site, notes in by_site.items():
            if site not in known:
                self._notes.settle(notes)
                continue
            try:
                for queue in {name: None for note in notes for name in note.queues}:
                    self._ask(site, queue, at_front=True)
            except BrokerUnavailable:  # each further try would take as long
                self._notes.put_off(notes, now, again_in=FIRST_LOOK)
                raise
            self._notes.put_off(notes, now)
            asked.append(site)
        return asked

    def have_sites_cleared(self, now: float, queue: str) -> None:
        """Ask a worker of that queue to clear sites with old rows of jobs that were sent.

        Raises BrokerUnavailable.
        """
        known = {*self._host.sites()}
        for site in self._notes.sites(now - CLEARED):
            if site in known:
                self._ask(site, queue, at_front=False)
            else:
                self._notes.forget_site(site)

    def _ask(self, site: str, queue: str, *, at_front: bool) -> None:
        known = self._settings.queues.get(queue) or self._settings.queues["default"]
        # Its id lets at most one such job wait, even if nobody serves the queue.
        job_id = f"{RELAY_OUTBOX}::{known.name}::{'front' if at_front else 'back'}"
        message = Message(
            id=new_id(), job_id=job_id, site=site, user=ADMINISTRATOR,
            method=RELAY_OUTBOX, name=RELAY_OUTBOX, queue=known.name, timeout=known.timeout,
            enqueued_at=time.time(), at_front=at_front,
        )  # fmt: skip
        try:
            self._dispatcher.dispatch([Sending(message, claim=True)])
        except BrokerUnavailable:
            raise
        except FrappeJobsError as error:
            logger.warning("the outbox of %s is looked at later: %s", site, error)

    # --- where all sites are visited

    def visit_all(self) -> None:
        """``visit`` each site; what fails there is logged.  Raises BrokerUnavailable."""
        for site in self._host.sites():
            try:
                self.visit(site)
            except BrokerUnavailable:
                raise
            except Exception as error:  # its database's: the other sites are visited
                known = self._host.is_conflict(error) or self._host.is_out_of_reach(error)
                logger.error(
                    "the outbox of %s is looked at later: %s", site, shortened(str(error)),
                    exc_info=not known,
                )  # fmt: skip

    def visit(self, site: str) -> None:
        """Delete a site's rows of jobs that were sent; leave a note for rows that have none.

        Raises BrokerUnavailable, and the database's errors.
        """
        now = time.time()
        with self._host.session(site) as session:
            look = self._look_at(session, now, sends=False)
        if look.waiting:
            noted = {note.id for note in self._notes.of(site, now)}
            messages = [_message(row) for row in look.waiting if row.note not in noted]
            if queues := {message.queue: None for message in messages if message}:
                self._notes.leave([Note(site, tuple(queues), 0.0, FOUND)])

    # --- with the site open

    def look(self, now: float | None = None) -> None:
        """Send the open site's jobs that were committed and never sent, and delete the other rows.

        Jobs that cannot be sent now stay.  Raises the database's errors.
        """
        session, now = self._host.require_current(), now or time.time()
        try:
            notes = self._notes.of(session.site, now - GRACE)
            look = self._look_at(session, now, sends=True)
            self._notes.settle([note for note in notes if _is_done(note, look, now)])
        except BrokerError as error:
            logger.warning("the outbox of %s is looked at later: %s", session.site, error)

    def unsent(self, session: Session, now: float) -> Look:
        """Which of the oldest rows of the open site wait, and which are never sent.

        Nothing is changed.  Raises BrokerUnavailable.
        """
        rows, look = self._host.outbox.read(session, before=now, limit=SHOWN), Look()
        ours = self._ours(rows, session.site, now, look)
        done = self._sorted(ours).done
        look.waiting += [row for row in ours if row.message_id not in done]
        return look

    def _look_at(self, session: Session, now: float, *, sends: bool) -> Look:
        look, before, last = Look(), now - GRACE, None
        session.commit()  # a transaction that has read would not see what was committed since
        while True:
            rows = self._host.outbox.read(session, before=before, after=last, limit=PAGE)
            ours = self._ours(rows, session.site, now, look)
            if done := self._see_to(ours, before, sends=sends):
                self._host.outbox.delete(session, sorted(done))
            session.commit()
            look.waiting += [row for row in ours if row.message_id not in done]
            if len(rows) < PAGE:
                break
            last = rows[-1]
        has_more = look.waiting or self._has_young(session, before)
        self._notes.forget_site(session.site, now if has_more else None)
        return look

    def _has_young(self, session: Session, since: float) -> bool:
        """Whether there are rows that were too young to be looked at."""
        last = Row("", "", "", "", "", claim=False, written_at=since)
        young = self._host.outbox.read(session, before=2 * since, after=last, limit=1)
        session.commit()
        return bool(young)

    def _ours(self, rows: Sequence[Row], site: str, now: float, look: Look) -> list[Row]:
        """The rows that were written here, and not too long ago.

        The others came with a backup, or a copy of another site: their jobs may have run.
        """
        here = self._settings.bench_id, site
        ours: list[Row] = []
        for row in rows:
            is_ours = (row.bench_id, row.site) == here and row.written_at > now - TOO_OLD
            (ours if is_ours else look.strange).append(row)
        return ours

    def _see_to(self, rows: Sequence[Row], before: float, *, sends: bool) -> set[str]:
        """Send unsent jobs, with ``sends``; gives the ids of messages whose rows may go."""
        by_state = self._sorted(rows)
        for buried in by_state.buried:
            self._follower.never_sent(buried, CANCELLED_BEFORE)
        if not sends:
            return by_state.done
        late = [record for record, recorded_at in by_state.unsent if recorded_at < before]
        new = [(row, message) for row in rows if (message := by_state.new.get(row.message_id))]
        sent = self._send([Sending.of_row(message, row.message, row.claim) for row, message in new])
        return by_state.done | self._send_again(late) | sent

    def _sorted(self, rows: Sequence[Row]) -> Sorted:
        records = self._ledger.read_all(row.message_id for row in rows)
        known = {record.message.id: record for record in records}
        unsent = self._ledger.unsent_of([*known])
        unknown = (row for row in rows if row.message_id not in known)
        new = {row.message_id: message for row in unknown if (message := _message(row))}
        buried = self._ledger.buried([*new.values()])
        return Sorted(
            done=(known.keys() - unsent) | buried,
            buried=[new.pop(message_id) for message_id in buried],
            unsent=[(known[message_id], at) for message_id, at in unsent.items()],
            new=new,
        )

    def _send_again(self, unsent: Sequence[Record]) -> set[str]:
        """Send messages that have only a record; a second message of a job does no harm."""
        if not unsent:
            return set()
        lost, messages = list(unsent), [record.message for record in unsent]
        self._ledger.sending(messages)
        if self._broker.is_searchable:
            ids = {message.id for message in self._broker.lost(messages)}
            lost = [record for record in unsent if record.message.id in ids]
        if lost:
            self._broker.send_again([record.message for record in lost])
        self._ledger.sent(messages)
        return {message.id for message in messages}

    def _send(self, sendings: Sequence[Sending]) -> set[str]:
        """Send messages that nobody knows of, the oldest first."""
        outcomes, error = send(self._dispatcher, sendings)
        for sending in sendings:
            message, outcome = sending.message, outcomes.get(sending.message.id)
            if isinstance(outcome, str):
                self._follower.never_sent(message, outcome)
            elif outcome:
                logger.warning(
                    "%s is sent now: it was committed, and whoever did so is gone", message.name,
                    extra={"action": "job_sent_late", "job": message.job_id},
                )  # fmt: skip
        if error:
            logger.warning("jobs of an outbox are sent later: %s", error)
        return {*outcomes}


def _message(row: Row) -> Message | None:
    try:
        return Message.from_json(row.message)
    except BadMessage as error:  # a later version's is left to a newer worker
        logger.error("the row of %s in the outbox cannot be read: %s", row.message_id, error)
        return None


def _is_done(note: Note, look: Look, now: float) -> bool:
    """Whether its site need not be looked at again because of this note.

    If no row of it waits, a transaction may still be about to commit: so only an old note is done.
    """
    waiting = {row.note for row in look.waiting}
    return note.at < now - FORGOTTEN and not (waiting if note.id == FOUND else note.id in waiting)
