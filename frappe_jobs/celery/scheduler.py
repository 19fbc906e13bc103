"""The scheduler's process: Celery beat, with the bench's schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery
from celery.signals import beat_init

from frappe_jobs.celery import hangup
from frappe_jobs.celery.app import beat_settings
from frappe_jobs.celery.log import Log, Output
from frappe_jobs.celery.worker import say_ready
from frappe_jobs.servers.in_force import SettingsInForce


@dataclass(frozen=True)
class Scheduler:
    """What a scheduler beside workers was asked to do."""

    log: Log = Log()
    burst = False


def run_scheduler(
    app: Celery,
    settings: SettingsInForce,
    *,
    log: Log,
    on_ready: Callable[[], object] = say_ready,
) -> None:
    """Queue what is due until the process is told to stop.

    Any number may run: one leads, the others stand by.
    """
    Output.log = log
    hangup.take()
    if settings.is_guest:  # the team's app, in a process of ours
        app.conf.update(beat_settings(settings))
    beat_init.connect(lambda **_: on_ready(), weak=False)
    beat = app.Beat(
        loglevel=log.level,
        quiet=True,  # no banner: standard output stays clean
        scheduler=app.conf.beat_scheduler,
    )
    beat.run()
