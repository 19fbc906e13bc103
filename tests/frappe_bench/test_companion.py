"""Frappe's own functions that start workers and the scheduler, as its companion calls them.

In a fork of a process that has loaded Frappe and opened no site; the manager of such
companions belongs to Frappe's own gunicorn.
"""

from __future__ import annotations

import os
import signal

import pytest
from frappe_bench.bench import WAIT, FrappeBench

from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(120)

#: The parent is gunicorn's master, and hands its signals on.
FORKED = """
import os, signal, sys
import frappe.app, frappe.utils.background_jobs, frappe.utils.scheduler
child = os.fork()
if not child:
    {start}
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
WORKER = FORKED.format(
    start="from frappe.utils.background_jobs import start_worker as run; run(queue='short,default')"
)
POOL = FORKED.format(
    start="from frappe.utils.background_jobs import start_worker_pool as run; "
    "run(queue='short', num_workers=2)"
)
SCHEDULER = FORKED.format(start="from frappe.utils.scheduler import start_scheduler as run; run()")


@pytest.mark.parametrize("code", [WORKER, POOL], ids=["a worker", "a pool"])
def test_workers_are_ours_and_stop(bench: FrappeBench, code: str) -> None:
    with bench.process(code=code) as process:
        found = bench.call(
            WAIT + "from frappe.utils import background_jobs as jobs\n"
            "job = wait(frappe.enqueue('probe.tasks.look', queue='short'))\n"
            "pids = [one.pid for one in jobs.get_workers(jobs.get_queue('short'))]\n"
            "answer = [job.result['site'], pids]"
        )
        niceness = os.getpriority(os.PRIO_PROCESS, found[1][0])
        assert found[0] == bench.site
        assert niceness == os.getpriority(os.PRIO_PROCESS, 0) + 10
        assert process.stop() == 0, process.log


def test_the_scheduler_is_ours_and_stops(bench: FrappeBench) -> None:
    if not bench.call("import frappe.utils.scheduler as s; answer = hasattr(s, 'sleep_duration')"):
        pytest.skip("This Frappe has no companions; bench schedule starts its scheduler.")
    with bench.process(code=SCHEDULER) as process:
        look = (
            "from frappe.utils.scheduler import is_schduler_process_running as running\n"
            "report = frappe.get_doc('System Health Report')\n"
            "answer = [running(), report.scheduler_status]"
        )
        wait_until(lambda: bench.call(look)[0], 30)
        assert bench.call(look)[1] == "Active"
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.process.poll() is not None, 20)
    wait_until(lambda: not bench.call(look)[0], 30)
