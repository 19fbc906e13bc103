"""Sites' outboxes: jobs that were committed and are not sent yet, and rows that never will be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from frappe_jobs.config import Settings
from frappe_jobs.doctor.mending import Mendable
from frappe_jobs.doctor.text import duration, names, number
from frappe_jobs.host.outbox import Row
from frappe_jobs.outbox.relay import TOO_OLD, Look
from frappe_jobs.texts.finding import Finding

#: Seconds in which a worker has sent what its process could not.
SOON = 60


def check_outboxes(
    settings: Settings,
    outboxes: Mapping[str, Look],
    table: str,
    send: Callable[[Sequence[str]], object],
    now: float,
) -> Iterator[Finding]:
    """What waits in them for longer than that; ``send`` sends it."""
    waiting = {site: late for site, look in outboxes.items() if (late := _late(look, now))}
    if waiting:
        since = duration(now - min(row.written_at for rows in waiting.values() for row in rows))
        count = number(sum(map(len, waiting.values())), "job")
        what = f"{count} committed on {names(waiting)}, and not sent: the first one {since} ago."
        cure = "frappe-jobs doctor --fix sends them; so does a worker: see that one runs."
        done = f"sent: what was committed on {names(waiting)}."
        yield Mendable("warning", what, cure, partial(send, [*waiting]), done)
    for site, look in outboxes.items():
        if look.strange:
            yield _strange(settings, site, look.strange, table, now)


def _late(look: Look, now: float) -> list[Row]:
    return [row for row in look.waiting if row.written_at < now - SOON]


def _strange(settings: Settings, site: str, rows: Sequence[Row], table: str, now: float) -> Finding:
    places = names({f"{row.site} of {row.bench_id}": None for row in rows})
    what = (
        f"{site}: {number(len(rows), 'row')} of {table} never sent: from a backup or a copy "
        f"({places}), or over 3 days old, so that their jobs may have run."
    )
    cure = (
        f"Enqueue what is missing, then delete them: DELETE FROM {table} WHERE site <> '{site}' OR "
        f"bench_id <> '{settings.bench_id}' OR written_at < {now - TOO_OLD:.0f}"
    )
    return Finding("warning", what, cure)
