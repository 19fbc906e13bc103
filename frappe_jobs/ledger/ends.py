"""The end of a job: its result, whoever waits for it, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from itertools import chain
from typing import Any
from uuid import uuid4

from frappe_jobs.errors import JobFailed
from frappe_jobs.ledger.connection import reachable
from frappe_jobs.ledger.fields import Fields
from frappe_jobs.ledger.indexing import Indexing, ended_tokens
from frappe_jobs.ledger.record import CANCELLED, FAILED, FINISHED, UNWRITTEN, End, Record
from frappe_jobs.ledger.scripts import CLAIM_AGAIN, END, FORGET
from frappe_jobs.ledger.tombstones import Tombstones
from frappe_jobs.message import Message, to_json

#: What Celery calls the ends of a job, and the error that it is told of where none was raised.
CELERY_STATES = {FINISHED: "SUCCESS", FAILED: "FAILURE", CANCELLED: "REVOKED"}
JOB_FAILED = f"{JobFailed.__module__}.{JobFailed.__name__}"
#: Seconds for which an ended job is claimed by one who sends it once more.
CLAIMED = 60


class Ends(Fields, Tombstones, Indexing):
    """How a job ends."""

    @reachable
    def end(
        self,
        message: Message,
        status: str,
        fields: Mapping[str, str] | None = None,
        *,
        waiting_only: bool = False,
        is_written: bool = False,
        holder: str | None = None,
        call: str | None = None,
    ) -> bool:
        """Note that the job has ended, free its id, and wake whoever waits for it.

        False, and nothing is changed, if it had ended before (with ``waiting_only``: or begun), or
        if another process than ``holder`` runs it by now.  Asked again for the same ``call``,
        because the reply was lost, it says True again.
        The end of a tracked job is kept until its Background Task says it too, unless that does
        already (``is_written``).
        """
        return bool(
            self._ended(message, status, fields or {}, waiting_only, is_written, holder, call)
        )

    @reachable
    def cancel(
        self, messages: Sequence[Message], reason: str, *, waiting_only: bool = False
    ) -> list[bool]:
        """End these jobs as cancelled, in one round trip; what ``end`` says of each.

        Their messages may lie on the broker for longer than the records are kept; the worker that
        gets such a message drops it.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                self._ended(message, CANCELLED, {"reason": reason}, waiting_only, client=pipe)
            return [bool(reply) for reply in pipe.execute()]

    @reachable
    def forget(self, message: Message) -> None:
        """Remove the record of a job that has ended."""
        self.forget_all([message])

    @reachable
    def forget_all(self, messages: Sequence[Message]) -> list[bool]:
        """Remove the records of jobs that have ended, in one round trip.

        False for each that waits or runs, of which nothing is removed, or is no longer known.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                arguments = [message.id, self._prefix, " ".join(ended_tokens(message))]
                self._script(FORGET)(keys=self._keys(message), args=arguments, client=pipe)
            return [bool(reply) for reply in pipe.execute()]

    @reachable
    def claim_again(self, records: Sequence[Record]) -> list[bool]:
        """Claim ended jobs for sending them once more; whether each is this caller's.

        Not if it has changed since it was read, or somebody has claimed it within a minute.
        """
        with self.redis.pipeline(transaction=False) as pipe:
            for one in records:
                key = self._key("record", one.message.id)
                arguments = [one.status, time.time(), CLAIMED]
                self._script(CLAIM_AGAIN)(keys=[key], args=arguments, client=pipe)
            return [bool(reply) for reply in pipe.execute()]

    @reachable
    def unclaim_again(self, messages: Sequence[Message]) -> None:
        """Let others send them once more."""
        with self.redis.pipeline(transaction=False) as pipe:
            for one in messages:
                pipe.hdel(self._key("record", one.id), "again")
            pipe.execute()

    def _ended(
        self,
        message: Message,
        status: str,
        fields: Mapping[str, str],
        waiting_only: bool,
        is_written: bool = False,
        holder: str | None = None,
        call: str | None = None,
        client: Any = None,
    ) -> Any:
        """1 if this call ended it, else 0; in a pipeline that is said when it is executed."""
        fields = self._kept(fields)
        failed = status == FAILED
        ttl = self._settings.job_failure_ttl if failed else self._settings.results_ttl
        arguments = [
            message.id, time.time(), status, ttl, self._settings.failed_jobs_limit,
            int(waiting_only), self._prefix, *self._celery_result(message, status, fields),
            self._settings.results_ttl, *self._unwritten(message, status, fields, is_written),
            holder or "", call or uuid4().hex,
            *self._tombstone(message, status != CANCELLED), *chain.from_iterable(fields.items()),
            *self._labels(message), *self._places_at_end(message, status, fields),
        ]  # fmt: skip
        return self._step(END)(keys=self._keys(message), args=arguments, client=client)

    def _unwritten(
        self, message: Message, status: str, fields: Mapping[str, str], is_written: bool
    ) -> tuple[str, str]:
        """The key and the text of an end that the Background Task does not say yet; or nothing."""
        if message.task_id is None or is_written:
            return "", ""
        end = End(
            task_id=message.task_id, queue=message.queue, status=status, ended_at=time.time(),
            exception=fields.get("traceback") or fields.get("reason"), result=fields.get("result"),
        )  # fmt: skip
        return self._key(UNWRITTEN, message.site), to_json(end.__dict__)

    def _celery_result(
        self, message: Message, status: str, fields: Mapping[str, str]
    ) -> tuple[str, str]:
        """The key and the text of Celery's result, so that AsyncResult finds it; or nothing.

        Written here it costs no round trip, and is there for killed and cancelled jobs as well.
        """
        if not self._settings.keeps_results:
            return "", ""
        result = fields.get("result", "null")
        if status != FINISHED:
            error = "celery.exceptions.TaskRevokedError" if status == CANCELLED else ""
            module, _, kind = (fields.get("error") or error or JOB_FAILED).rpartition(".")
            said = fields.get("reason", "").removeprefix(f"{kind}: ")
            result = to_json({"exc_type": kind, "exc_module": module, "exc_message": [said]})
        meta = to_json(
            {
                "status": CELERY_STATES[status],
                "traceback": fields.get("traceback"),
                "children": [],
                "date_done": datetime.now(timezone.utc).isoformat(),
                "task_id": message.id,
            }
        )
        return f"{self._prefix}celery-task-meta-{message.id}", f'{meta[:-1]},"result":{result}}}'
