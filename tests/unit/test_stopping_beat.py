"""The scheduler's process and the signals that end it."""

from __future__ import annotations

import os
import signal
from threading import Event

import pytest
from celery import Celery
from celery.beat import Service

from frappe_jobs.celery.scheduler import stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_as_well_though_its_exit_may_be_swallowed(number: int) -> None:
    app = Celery(set_as_current=False)
    service = Service(app, scheduler_cls="celery.beat:Scheduler")
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        stopping(app)().install_sync_handler(service)
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), number)
            Event().wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert service._is_shutdown.is_set()
