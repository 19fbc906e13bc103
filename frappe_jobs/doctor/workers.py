"""Whether workers run the jobs, soon enough, and whether the clocks agree."""

from __future__ import annotations

import shlex
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os.path import commonprefix

from frappe_jobs.alive.code import Code
from frappe_jobs.brokers.base import OnlineWorker
from frappe_jobs.config import Settings
from frappe_jobs.doctor.text import duration, names, number
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.ledger.record import QUEUED, Record
from frappe_jobs.sites_folder import COMMON_CONFIG
from frappe_jobs.texts.finding import Finding

#: Seconds that a job may wait; in a queue with a longer timeout, that timeout.
LONG_WAIT = 600
#: Of queues with the same trouble so many are told one by one, the worst.
EACH = 5
#: Seconds by which the clocks of a disk and of a worker may differ.
LEEWAY = 2.0


def check_workers(
    settings: Settings, workers: Sequence[OnlineWorker], waiting: Mapping[str, int]
) -> Iterator[Finding]:
    """Whether each queue is served."""
    full = {queue: number(count, "waiting job") for queue, count in waiting.items() if count}
    if not workers:
        total = number(sum(waiting.values()), "waiting job")
        what = f"No worker is online for {total}." if full else "No worker is online: no job runs."
        yield Finding("error" if full else "warning", what, "Start one: frappe-jobs worker.")
        return
    processes = number(sum(worker.processes for worker in workers), "process", "processes")
    who = names(worker.name for worker in workers)
    yield Finding("ok", f"{number(len(workers), 'worker')} online, with {processes}: {who}.")
    served = {queue for worker in workers for queue in worker.queues}
    unserved = [queue for queue in settings.queues if queue not in served]
    unserved.sort(key=lambda queue: -waiting.get(queue, 0))
    for queue in unserved[:EACH]:
        what = f"No worker serves the queue {queue!r}"
        what += f", with its {full[queue]}." if queue in full else ": jobs sent there would wait."
        cure = f"Start one for it: frappe-jobs worker --queue {queue}."
        yield Finding("error" if queue in full else "warning", what, cure)
    if others := unserved[EACH:]:
        jobs = sum(waiting.get(queue, 0) for queue in others)
        what = f"No worker serves {number(len(others), 'more queue')}: {names(others)}"
        what += f", with their {number(jobs, 'waiting job')}." if jobs else "."
        cure = f"Start one for them: frappe-jobs worker --queue {','.join(others)}."
        yield Finding("error" if jobs else "warning", what, cure)


def check_pauses(
    pauses: Sequence[Pause], waiting: Mapping[str, int], now: float
) -> Iterator[Finding]:
    """What is paused, so that its jobs wait."""
    for one in pauses:
        count = waiting.get(one.queue, 0) if one.queue and not one.site else None
        jobs = "its jobs wait" if count is None else f"{number(count, 'job')} wait"
        site = f" --site {one.site}" if one.site else ""
        cure = f"frappe-jobs{site} queues resume{f' {one.queue}' if one.queue else ''}"
        what = f"{one.name} has been paused for {duration(now - one.since)}: {jobs}."
        yield Finding("warning", what, f"To go on: {cure}")


def check_code(workers: Sequence[OnlineWorker], look: Callable[[], Code]) -> Iterator[Finding]:
    """Whether they run the code that is on disk, which is looked at if there are any."""
    if not workers:
        return
    disk = look()
    found = {worker.name: why for worker in workers if (why := stale(worker, disk))}
    for name, why in found.items():
        what = f"The worker {name} runs other code than is on disk here: {why}."
        yield Finding("warning", what, "Restart it: it finishes what it runs before it ends.")


def stale(worker: OnlineWorker, disk: Code, machine: str = "") -> str:
    """Why the worker has another code than is on disk here, in words; empty: it has the same.

    What was changed without another version or commit shows on the worker's own machine alone.
    """
    for app, began in worker.code.items():
        now = disk.versions.get(app, began)
        if now != began:
            return f"{app} was {began} when it began, and is {now} now"
    is_here = worker.name.rpartition("@")[2] == (machine or socket.gethostname())
    if is_here and worker.since is not None and disk.changed_at > worker.since + LEEWAY:
        return "its apps' files have changed since it began"
    return ""


def check_queues(
    settings: Settings, waiting: Mapping[str, int], suspects: Iterable[Record], now: float
) -> Iterator[Finding]:
    """How many jobs wait, and whether any has waited too long."""
    depths = ", ".join(f"{queue} {count:,}" for queue, count in waiting.items())
    yield Finding("ok", f"Jobs that wait: {depths}.")
    late: Counter[str] = Counter()
    oldest: dict[str, Record] = {}
    for record in suspects:  # they may be very many, so none is kept that need not be
        queue, since = record.message.queue, waits_since(record)
        if record.status == QUEUED and queue in settings.queues:
            if now - since > _limit(settings, queue):
                late[queue] += 1
            if queue not in oldest or since < waits_since(oldest[queue]):
                oldest[queue] = record
    worst = sorted(filter(late.get, settings.queues), key=lambda queue: waits_since(oldest[queue]))
    for queue in worst[:EACH]:
        yield _late(oldest[queue], _limit(settings, queue), late[queue], now)
    if others := worst[EACH:]:
        what = (
            f"In {number(len(others), 'more queue')} jobs have waited for too long as well: "
            f"{names(others)}; {number(sum(late[queue] for queue in others), 'job')}."
        )
        cure = f"Start more processes: frappe-jobs worker --queue {','.join(others)}."
        yield Finding("warning", what, cure)


def _limit(settings: Settings, queue: str) -> int:
    return max(LONG_WAIT, settings.queues[queue].timeout)


def check_due(count: int) -> Iterator[Finding]:
    """Jobs for later, and retries, whose time has come and that no worker sends."""
    if count:
        what = f"{number(count, 'job')} should have been sent to their queues over a minute ago."
        cure = "Workers of this version send what is due: frappe-jobs worker."
        yield Finding("error", what, cure)


def waits_since(record: Record) -> float:
    """When it could have begun: it was enqueued, or its next attempt was due."""
    return max(record.due or 0, record.message.enqueued_at)


def _late(oldest: Record, limit: int, count: int, now: float) -> Finding:
    queue = oldest.message.queue
    what = (
        f"In the queue {queue!r} {oldest.message.name} of {oldest.message.site} has waited for "
        f"{duration(now - waits_since(oldest))}; for over {duration(limit)}: "
        f"{number(count, 'job')}."
    )
    cure = f"Start more processes: frappe-jobs worker --queue {queue} --concurrency 4."
    return Finding("warning", what, cure)


def check_clocks(lease: int, redis: float, clocks: Mapping[str, float]) -> Iterator[Finding]:
    """Compare each clock with Redis's; all are given as seconds ahead of this machine's."""
    limit = lease / 3
    wrong = {whose: at - redis for whose, at in clocks.items() if abs(at - redis) >= limit}
    for whose, seconds in wrong.items():
        yield _wrong_clock(whose, seconds, lease)
    if not wrong:
        what = f"The clocks agree within {limit:.0f} s: Redis's, and that of {names(clocks)}."
        yield Finding("ok", what)


def _wrong_clock(whose: str, seconds: float, lease: int) -> Finding:
    way = "ahead of" if seconds > 0 else "behind"
    cure = "Have the machines' clocks set by NTP (timedatectl set-ntp true)."
    if whose.startswith("the scheduler "):
        what = f"The clock of {whose} is {duration(abs(seconds))} {way} Redis's"
        return Finding("warning", f"{what}; jobs are still due by Redis's.", cure)
    what = f"The clock of {whose} is {duration(abs(seconds))} {way} Redis's: jobs come too "
    what += "early" if seconds > 0 else "late"
    if abs(seconds) < lease:
        return Finding("warning", f"{what}.", cure)
    what += f", and running jobs look lost (the lease is {lease} s)."
    return Finding("error", what, cure)


def check_sisters(
    settings: Settings, found: Mapping[str, int], served: Collection[str]
) -> Iterator[Finding]:
    """Jobs of this bench's sites under other bench ids, which no worker serves."""
    benches = {queue.rpartition(":")[0] for queue in served}
    sisters = sorted(found.keys() - benches, key=partial(_likeness, settings.bench_id))
    if not sisters:
        return
    has_moved = settings.custom_bench_id is None
    counts = [number(found[one], "job") if found[one] > 0 else "jobs" for one in sisters]
    each = names(f"{one!r} ({count})" for one, count in zip(sisters, counts, strict=True))
    what = (
        f"Jobs of this bench's sites are under other bench ids, which no worker serves: {each}; "
        f"this bench's id is {settings.bench_id!r}"
        + (", made from its folder's path: was that moved?" if has_moved else ".")
    )
    cure = (
        f"Where they are this bench's: FRAPPE_BENCH_ID={shlex.quote(sisters[0])} frappe-jobs "
        "worker --burst runs them"
        + (f"; set 'bench_id' in {COMMON_CONFIG} to keep the id." if has_moved else ".")
    )
    yield Finding("error" if has_moved else "warning", what, cure)


def _likeness(ours: str, other: str) -> tuple[int, str]:
    """Sorts first those that begin like ours, as a bench that was moved or deployed anew does."""
    return -len(commonprefix([ours, other])), other
