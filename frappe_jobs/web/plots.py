"""Small plots of the last hours, as numbers for an SVG that a template draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frappe_jobs.history.counts import Counts
from frappe_jobs.history.reading import Series
from frappe_jobs.runtime import Runtime

#: The time that plots look back on, and that one of their bars stands for; in seconds.
SPAN, STEP = 3 * 3600, 300
#: The size of a plot: of a bar with its gap, and of the tallest.
WIDTH, HEIGHT = 4, 28


@dataclass(frozen=True)
class Bar:
    """One bar; ``height`` None: no data."""

    x: int
    y: float
    height: float | None


@dataclass(frozen=True)
class Past:
    """What a queue did in the last hours."""

    #: In all; None: no data.
    total: Counts | None
    ended: Sequence[Bar]
    failed: Sequence[Bar]
    waited: Sequence[Bar]
    #: The tallest bars, with their units: jobs in a step, seconds.
    most_ended: int
    most_waited: float


def past_of(here: Runtime) -> Mapping[str, Past]:
    """By queue; empty where nothing is recorded.  Raises BrokerUnavailable."""
    if here.settings.keeps_history:
        # Workers do that as well; where none runs, all that came since would be read at each look.
        here.folding.fold()
    series = here.history.series(SPAN, "queue", step=STEP)
    if not any(series.known):
        return {}
    return {queue: _past(series, queue) for queue in here.settings.queues}


def _past(series: Series, queue: str) -> Past:
    places = series.row(queue)
    ended = [None if one is None else float(one.finished + one.failed) for one in places]
    failed = [None if one is None else float(one.failed) for one in places]
    waited = [None if one is None else one.waited.quantile(0.95) for one in places]
    tallest = max((one for one in ended if one), default=0.0)
    longest = max((one for one in waited if one), default=0.0)
    return Past(
        series.total(queue), bars(ended, tallest), bars(failed, tallest), bars(waited, longest),
        int(tallest), longest,
    )  # fmt: skip


def bars(values: Sequence[float | None], tallest: float) -> list[Bar]:
    """A bar for each: what is small is seen, too; what is nothing has none."""
    found = []
    for place, value in enumerate(values):
        height = None if value is None else 0.0
        if value and tallest:
            height = max(1.5, round(HEIGHT * value / tallest, 1))
        found.append(Bar(place * WIDTH, HEIGHT - (height or 0.0), height))
    return found
