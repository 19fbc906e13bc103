"""OpenTelemetry's and Sentry's own Celery integrations, unchanged, see our jobs."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import pytest

from frappe_jobs.testing import wait_until

APPS = Path(__file__).parents[1] / "apps"


class Traced:
    """A bench whose worker and whose client are both instrumented."""

    def __init__(self, bench, tracer):
        self.bench, self.file = bench, bench.path / "traced.jsonl"
        shutil.copytree(APPS / "traced", bench.path / "traced")
        bench.write("apps.txt", "acme\ntraced\n")
        bench.variables = {"TRACED_WITH": tracer, "TRACED_FILE": str(self.file)}

    def lines(self):
        text = self.file.read_text() if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def client(self, code):
        """Run code in an instrumented process; gives the JSON that it prints last."""
        head = "import json, os, frappe_jobs as frappe, traced.hooks\n"
        done = self.bench.python(head + textwrap.dedent(code))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("queue", ["default", "short"])
def test_opentelemetrys_parent_span_arrives(make_bench, queue):
    traced = Traced(make_bench(), "opentelemetry")
    with traced.bench.worker("--queue", queue):
        code = f"""
            from opentelemetry import trace

            with trace.get_tracer("test").start_as_current_span("the request") as span:
                with frappe.site("site1"):
                    job = frappe.enqueue("acme.tasks.ping", {queue!r}, job_id="P-1")
                    job.wait(20)
            print(json.dumps([span.get_span_context().trace_id, os.getpid(), job.message_id]))
        """
        trace_id, client_pid, message_id = traced.client(code)
        spans = wait_until(
            lambda: [
                line
                for line in traced.lines()
                if line["name"].startswith("run/") and line["trace"] == trace_id
            ]
        )
    assert [span["pid"] == client_pid for span in spans] == [False]
    sent = {line["span"]: line for line in traced.lines() if line["pid"] == client_pid}
    assert sent[spans[0]["parent"]]["name"].startswith("apply_async/")
    assert spans[0]["name"] == "run/acme.tasks.ping"
    assert {"frappe_jobs." + name: value for name, value in {
        "method": "acme.tasks.ping", "site": "site1", "queue": queue, "job_id": "P-1",
        "message_id": message_id,
    }.items()}.items() <= spans[0]["attributes"].items()  # fmt: skip


@pytest.fixture(params=["redis", "rabbitmq"])
def bench_on(request, make_bench):
    """A bench on either broker."""
    if request.param == "redis":
        return make_bench()
    return make_bench(celery_broker_url=request.getfixturevalue("amqp_url"))


def test_the_trace_goes_on_in_a_retry_and_in_a_job_for_later(bench_on):
    traced = Traced(bench_on, "opentelemetry")
    with traced.bench.worker("--queue", "default"):
        code = """
            from opentelemetry import trace

            with trace.get_tracer("test").start_as_current_span("the request") as span:
                with frappe.site("site1"):
                    tried = frappe.enqueue("acme.tasks.fail_first", retry=1, job_name="tried again")
                    later = frappe.enqueue_in(0.3, "acme.tasks.ping", job_name="later")
                    frappe.enqueue(
                        "acme.tasks.ping", job_name="after the commit", enqueue_after_commit=True
                    )
                tried.wait(20), later.wait(20)
            print(json.dumps(span.get_span_context().trace_id))
        """
        trace_id = traced.client(code)
        names = ["run/after the commit", "run/later", "run/tried again", "run/tried again"]

        def runs():
            named = [line for line in traced.lines() if line["name"].startswith("run/")]
            return named if len(named) >= len(names) else []

        spans = wait_until(runs)
    assert sorted(span["name"] for span in spans) == names
    assert {span["trace"] for span in spans} == {trace_id}
    sent = {line["span"]: line["name"] for line in traced.lines()}
    assert {sent[span["parent"]].partition("/")[0] for span in spans} == {"apply_async"}


def test_a_failed_job_is_one_error_of_sentrys_in_the_callers_trace(make_bench):
    traced = Traced(make_bench(), "sentry")
    with traced.bench.worker("--queue", "default"):
        code = """
            import sentry_sdk

            with sentry_sdk.start_transaction(name="the request") as transaction:
                with frappe.site("site1"):
                    for text, retry in (("seen by Sentry", None), ("seen once", 1)):
                        job = frappe.enqueue(
                            "acme.tasks.fail", text=text, job_name=text, job_id="F-1", retry=retry
                        )
                        try:
                            job.wait(20)
                        except frappe.JobFailed:
                            pass
                    # What its worker has to say of it is said by then.
                    frappe.enqueue("acme.tasks.ping").wait(20)
            sentry_sdk.flush()
            print(json.dumps([transaction.trace_id, os.getpid()]))
        """
        trace_id, client_pid = traced.client(code)
        wait_until(lambda: [line for line in traced.lines() if line["errors"]])
    captured = [line for line in traced.lines() if line["errors"]]  # its worker has ended
    said = ["seen by Sentry", "seen once"]
    assert [line["errors"] for line in captured] == [[["ValueError", one]] for one in said]
    assert [line["transaction"] for line in captured] == said
    assert {"frappe_jobs." + name: value for name, value in {
        "method": "acme.tasks.fail", "site": "site1", "queue": "default", "job_id": "F-1",
    }.items()}.items() <= captured[0]["tags"].items()  # fmt: skip
    of_runs = [line for line in traced.lines() if line["type"] == "transaction"]
    runs = [line["transaction"] for line in of_runs]
    assert {line["trace"] for line in of_runs} == {trace_id}  # the second attempt's, too
    assert [runs.count(one) for one in said] == [1, 2]  # one for each attempt
    assert "acme.tasks.ping" in runs
    assert (captured[0]["trace"], captured[0]["pid"] == client_pid) == (trace_id, False)
