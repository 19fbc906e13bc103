"""The runs file, and the verdict on it: jobs that were lost, runs of one job at the same time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frappe_jobs.ledger.record import FAILED, FINISHED, Record

Event = Mapping[str, Any]


class Runs:
    """What the jobs ``acme.tasks.run`` wrote down; read as far as it has been written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """Begins and ends, in the order in which they happened."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read += len(whole)
            marks = map(json.loads, whole.splitlines())
            self._events += [mark for mark in marks if mark["what"] in ("begin", "end")]
        return self._events

    def begins(self) -> list[Event]:
        return [event for event in self.events if event["what"] == "begin"]

    @property
    def begun(self) -> int:
        return len(self.begins())

    def running(self) -> list[Event]:
        """The begins without an end, of processes that may be dead."""
        begun = {}
        for event in self.events:
            begun[event["message"]] = event if event["what"] == "begin" else None
        return [event for event in begun.values() if event]


def overlaps(events: Iterable[Event]) -> Iterator[str]:
    """Each moment with two runs of one message, by the lock it took and by the file's order."""
    begun: dict[str, list[int]] = {}
    for event in events:
        pids = begun.setdefault(event["message"], [])
        if event["what"] == "begin":
            pids.append(event["pid"])
            if not event["alone"]:
                yield f"{event['number']} began in {event['pid']} while another run lived"
        else:
            if pids[-1:] != [event["pid"]]:
                yield f"{event['number']} ended in {event['pid']} after it began in {pids}"
            pids.clear()


@dataclass
class Verdict:
    """What became of the jobs."""

    finished: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    runs: int = 0
    #: Finished jobs that were begun again after a whole run.
    repeated: int = 0

    @property
    def faults(self) -> list[str]:
        return self.lost + self.overlaps

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.failed.items())
        failed = f"{self.failed.total():,} failed" + (f" ({reasons})" if reasons else "")
        return (
            f"{self.finished:,} finished, {failed}, {len(self.lost)} lost; "
            f"{self.runs:,} runs, {len(self.overlaps)} overlaps"
        )


def judge(expected: Iterable[str], records: Iterable[Record], events: Iterable[Event]) -> Verdict:
    """Hold the jobs that were sent, by id, against their newest records and the runs file.

    Lost is a job without a record, with one that says it has not ended, or failed without a reason,
    and one that has finished without a whole run.
    """
    events = list(events)
    newest = {record.message.job_id: record for record in records}
    ends = Counter(event["job"] for event in events if event["what"] == "end")
    verdict = Verdict(overlaps=list(overlaps(events)))
    verdict.runs = sum(event["what"] == "begin" for event in events)
    for job_id in expected:
        record = newest.get(job_id)
        if record is None:
            verdict.lost.append(f"{job_id} has no record")
        elif record.status == FINISHED and ends[job_id]:
            verdict.finished += 1
            verdict.repeated += ends[job_id] > 1
        elif record.status == FAILED and record.reason:
            verdict.failed[record.reason] += 1
        else:
            verdict.lost.append(f"{job_id} is {record.status} after {ends[job_id]} whole runs")
    return verdict
