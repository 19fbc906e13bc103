"""What jobs can beyond Frappe's own call, on a bench: options of the same call, and frappe_jobs."""

from __future__ import annotations

from frappe_bench.bench import FrappeBench, Process


def test_frappes_enqueue_takes_our_options(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        "call = dict(queue='long', job_id='save', debounce=True, concurrency_key='C-1')\n"
        "call |= dict(method='probe.tasks.echo', expires=60)\n"
        "first, last = [frappe.enqueue(**call, text=text) for text in ('first', 'last')]\n"
        "message = last._record.message\n"
        "answer = [\n"
        "    first.get_status(), last.get_status(), message.arguments,\n"
        "    message.concurrency_key, message.expires_at - message.enqueued_at,\n"
        "]\n"
        "last.delete()"
    )
    *found, expires = found
    assert found == ["canceled", "queued", {"text": "last"}, "C-1"] and 59 < expires < 61


def test_a_job_for_later_is_moved_by_the_call_that_replaces_it(
    bench: FrappeBench, worker: Process
) -> None:
    found = bench.call(
        "import frappe_jobs\n"
        "jobs = [\n"
        "    frappe_jobs.enqueue_in(\n"
        "        delay, 'probe.tasks.echo', 'short', job_id='later', debounce=True, text=delay\n"
        "    )\n"
        "    for delay in (3600, 1)\n"
        "]\n"
        "answer = [jobs[1].wait(30), jobs[0].get_status()]"
    )
    assert found == [{"text": ["int", 1]}, "cancelled"]


def test_many_are_enqueued_at_once(bench: FrappeBench, worker: Process) -> None:
    found = bench.call(
        "import frappe_jobs\n"
        "jobs = frappe_jobs.enqueue_many(\n"
        "    {'method': 'probe.tasks.echo', 'queue': 'short', 'number': number}\n"
        "    for number in range(3)\n"
        ")\n"
        "answer = [job.wait(30) for job in jobs]"
    )
    assert found == [{"number": ["int", number]} for number in range(3)]
