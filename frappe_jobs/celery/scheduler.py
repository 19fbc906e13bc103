"""The scheduler's process: Celery beat, with the bench's schedule."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

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


def stopping(app: Celery) -> Any:
    """Celery's Beat that ends after a signal though its SystemExit is swallowed: at a fork, say."""

    class StoppingBeat(app.Beat):  # type: ignore[misc]
        def install_sync_handler(self, service: Any) -> None:
            super().install_sync_handler(service)
            for number in (signal.SIGTERM, signal.SIGINT):
                celerys: Any = signal.getsignal(number)

                def stop(number: int, frame: FrameType | None, celerys: Any = celerys) -> None:
                    service.stop()  # its loop looks
                    celerys(number, frame)

                signal.signal(number, stop)

    return StoppingBeat


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
    beat = stopping(app)(
        loglevel=log.level,
        quiet=True,  # no banner: standard output stays clean
        scheduler=app.conf.beat_scheduler,
    )
    beat.run()
