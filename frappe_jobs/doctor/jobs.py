"""Jobs that are stuck, lost, killed or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from frappe_jobs.brokers.base import Broker
from frappe_jobs.config import Settings
from frappe_jobs.doctor.mending import Mendable
from frappe_jobs.doctor.text import duration, names, number
from frappe_jobs.ledger.record import Record
from frappe_jobs.sweep import RELIEF
from frappe_jobs.texts.finding import Finding, Level

DAY = 24 * 3600


def check_lost(
    claim_ttl: int,
    broker: Broker,
    lost: Sequence[Record],
    unsent: Sequence[Record],
    send: Callable[[Sequence[Record]], object],
) -> Iterator[Finding]:
    """Jobs without a message: nothing ever runs them."""
    if lost and not broker.is_searchable:
        why = f"waited for over {duration(claim_ttl)}, so their messages may be lost"
        yield _without_message("warning", lost, why, send)
    elif lost:
        yield _without_message("error", lost, "whose message the broker has lost", send)
    if unsent:
        yield _without_message("error", unsent, "never sent", send)


def _without_message(
    level: Level, found: Sequence[Record], why: str, send: Callable[[Sequence[Record]], object]
) -> Finding:
    text = f"{number(len(found), 'job')} {why}: {_told(found)}"
    what = f"{text}. No worker runs them, and their ids stay taken."
    cure = "frappe-jobs doctor --fix sends them again; so does a worker, some time later."
    return Mendable(level, what, cure, partial(send, found), f"sent again: {text}.")


def check_running(
    settings: Settings, running: Sequence[Record], orphans: Sequence[Record], now: float
) -> Iterator[Finding]:
    """Jobs whose process is gone, and jobs that kill their process."""
    yield Finding("ok", f"Jobs that run: {len(running):,}.")
    looked_for = now - RELIEF * settings.lease
    if left := [record for record in orphans if (record.looked_for or 0) < looked_for]:
        what = (
            f"{number(len(left), 'job')} began, and no process holds its lease any more: "
            f"{_told(left)}."
        )
        cure = f"A worker of the queue {left[0].message.queue!r} begins it again; see that it runs."
        yield Finding("warning", what, cure)
    if killers := [record for record in running if record.died]:
        most = max(killers, key=lambda record: record.died)
        what = (
            f"{number(len(killers), 'job')} that run now killed their process before: "
            f"{_told(killers)}, {most.died} of {settings.max_starts} times."
        )
        yield Finding("warning", what, "See the worker's log: out of memory, a crash in a library?")


def check_failed(failed: Sequence[Record], sites: Collection[str]) -> Iterator[Finding]:
    """The jobs that failed within a day."""
    if not failed:
        yield Finding("ok", "No job has failed within a day.")
        return
    counts = Counter((record.message.queue, _method(record)) for record in failed)
    most = names(f"{count:,} {method} ({queue})" for (queue, method), count in counts.most_common())
    site = [*{record.message.site for record in failed}] if len(sites) > 1 else [*sites]
    cure = f"frappe-jobs --site {site[0] if len(site) == 1 else 'all'} jobs list --status failed"
    yield Finding("warning", f"{number(len(failed), 'job')} failed within a day: {most}.", cure)
    if died := [job for job in failed if (job.reason or "").startswith("its process died")]:
        what = f"Of them {len(died):,} ended because each of their processes died: {_told(died)}."
        yield Finding("warning", what, "See the worker's log: out of memory, a crash in a library?")


def check_kept_aside(kept: Sequence[Mapping[str, str]], now: float) -> Iterator[Finding]:
    """Messages that were no jobs: none was run, none is lost."""
    if not kept:
        return
    age = now - float(kept[0].get("at", 0))
    fresh = sum(now - float(message.get("at", 0)) < DAY for message in kept)
    what = (
        f"{number(len(kept), 'message')} kept aside, which no worker could run, the last "
        f"{duration(age)} ago: {kept[0].get('error')}"
    )
    cure = "Find out who sends them: runtime.current().ledger.kept_aside() has the whole of each."
    yield Finding("warning", what, cure) if fresh else Finding("ok", what)


def _told(records: Sequence[Record]) -> str:
    sent = [(record.message, _method(record)) for record in records]
    return names(f"{message.job_id} ({method} on {message.site})" for message, method in sent)


def _method(record: Record) -> str:
    """The job's method; of a scheduled job the method that it calls."""
    message = record.message
    return message.name if message.method.startswith("frappe_jobs.") else message.method
