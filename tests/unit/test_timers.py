"""Timers of jobs that have ended go; those of jobs that run stay, and go off."""

from __future__ import annotations

from kombu.asynchronous.timer import Timer

from frappe_jobs.celery.timers import drop_cancelled


def test_only_the_timers_of_jobs_that_run_stay() -> None:
    timer, gone_off = Timer(), []
    ended = [timer.call_after(300, gone_off.append, (number,)) for number in range(1000)]
    timer.call_after(-1, gone_off.append, ("runs",))
    for one in ended[:-1]:
        one.cancel()

    drop_cancelled(timer)

    assert len(timer) == 2
    due = next(entry for _, entry in timer if entry)
    due()
    assert gone_off == ["runs"]


def test_a_timer_that_drops_others_goes_on_itself() -> None:
    timer = Timer()
    timer.call_repeatedly(-1, drop_cancelled, (timer,))  # due at once, always
    timer.call_after(300, print).cancel()

    entries = (entry for _, entry in timer if entry)
    next(entries)()

    assert len(timer) == 1
    assert next(entries)
