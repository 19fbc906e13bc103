"""What is done in bulk: to which jobs as a rule, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from frappe_jobs.bulk.actions import Bulk, Outcome, Progress
from frappe_jobs.bulk.shown import Shown
from frappe_jobs.ledger.record import ENDED, FAILED, OPEN

#: What is said of jobs that were left as they are.
LEFT = {
    "changed": "have changed meanwhile", "gone": "are no longer kept",
    "unfit": "have another status", "locked": "have a Background Task that cannot be written now",
}  # fmt: skip


@dataclass(frozen=True)
class Deed:
    """One of them."""

    title: str
    #: What is said when it is done.
    said: str
    #: To jobs of these statuses, unless others are asked for.
    statuses: Sequence[str]
    act: Callable[[Bulk, Shown, Collection[str], Progress | None], Outcome]


DEEDS = {
    "retry": Deed("Retry", "Queued again", (FAILED,), Bulk.retry),
    "cancel": Deed("Cancel", "Cancelled", OPEN, Bulk.cancel),
    "delete": Deed("Delete", "Deleted", ENDED, Bulk.delete),
}


def told(outcome: Outcome, said: str | None) -> Iterator[str]:
    """What has become of the jobs, in sentences; without ``said`` only of those left."""
    if said:
        yield f"{said}: {len(outcome.done):,} jobs."
    for reason, count in sorted(outcome.skipped.items()):
        yield f"Left as they are: {count:,} that {LEFT[reason]}."
    if outcome.left_behind:
        yield (
            f"{outcome.left_behind:,} messages stay with the broker until a worker gets and drops "
            "them."
        )
