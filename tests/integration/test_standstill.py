"""A main loop that nothing wakes: its worker ends, and the next one does what it had taken."""

from __future__ import annotations

import signal

from acme import tasks

import frappe_jobs as frappe

#: Our app, in which a receiver of somebody's waits for ever, and shorter waits than ours.
STALLING = """
    import threading
    from frappe_jobs.celery import celery as app
    from celery.signals import task_received
    from frappe_jobs.celery import standstill

    standstill.SHUT, standstill.END = 2, 4

    @task_received.connect
    def stall(**received):
        print("it stalls", flush=True)
        threading.Event().wait()
"""


def test_a_worker_whose_loop_nothing_wakes_ends(make_bench):
    bench = make_bench(frappe_jobs_lease=2)
    bench.use()
    with bench.worker_of_app("acme_stalling", STALLING) as (worker, log), frappe.site("site1"):
        job = frappe.enqueue(tasks.ping)
        assert worker.wait(60) == -signal.SIGKILL
        text = log.read_text()
        assert text.index("it stalls") < text.index("stands still for 2 s: it is woken")
        assert "the worker's loop stands still for 4 s: the worker ends" in text
        with bench.worker("--queue", "default"):
            assert job.wait(60) == "pong"
