"""Metrics from what Redis knows, read by a real Prometheus where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from acme import tasks
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families
from recorded import begun, recorded

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.ledger.record import FAILED, FINISHED
from frappe_jobs.ledger.reports import Report, Reports
from frappe_jobs.metrics.families import text
from frappe_jobs.testing import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples/monitoring"
#: What differs from one moment to the next.
AGES = re.compile(r"^frappe_jobs_(oldest_waiting|scheduler_l\w+)_seconds.*\n", re.MULTILINE)


@pytest.fixture
def watched(make_bench):
    bench = make_bench(frappe_jobs_metrics=True)
    bench.use()
    return bench


@pytest.fixture
def ledger(watched):
    ledger = runtime.current().ledger
    for status in (FINISHED, FINISHED, FAILED):
        ledger.end(begun(ledger), status)
    begun(ledger)
    recorded(ledger)
    Reports(ledger).tell(Report("worker@here", ["default"], 2, 5_000_000))
    return ledger


def samples(page):
    families = text_string_to_metric_families(page)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families for sample in family.samples
    }  # fmt: skip


def asked(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
        return reply.read().decode()


class Serving:
    """``frappe-jobs metrics`` on a port that is free."""

    def __init__(self, worker):
        self.worker = worker
        said = next(line for line in worker.lines if "/metrics" in line)
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)/", said)[1])


def test_the_figures_are_those_of_the_ledger(ledger):
    found = samples(text(runtime.current()).decode())
    assert found["frappe_jobs_redis_up",] == 1
    assert found["frappe_jobs_waiting", "default"] == found["frappe_jobs_running",] == 1
    assert found["frappe_jobs_waiting", "short"] == 0
    assert 0 < found["frappe_jobs_oldest_waiting_seconds", "default"] < 60
    assert found["frappe_jobs_enqueued_total", "default"] == 5
    assert found["frappe_jobs_finished_total", "default"] == 2
    assert found["frappe_jobs_failed_total", "default"] == 1
    assert found["frappe_jobs_failed_kept", "default"] == 1
    assert found["frappe_jobs_waited_seconds_count", "default"] == 4
    assert found["frappe_jobs_run_seconds_bucket", "+Inf", "default"] == 3
    assert found["frappe_jobs_worker_processes", "worker@here"] == 2
    assert found["frappe_jobs_worker_memory_bytes", "worker@here"] == 5_000_000
    assert found["frappe_jobs_scheduler_leads",] == 0
    assert ("frappe_jobs_scheduler_last_look_seconds",) not in found  # none ever did


def test_what_waits_elsewhere_is_told_as_the_list_of_queues_tells_it(make_bench):
    bench = make_bench(
        frappe_jobs_metrics=True, frappe_jobs_limits={"queue:short": {"running": 0}}
    )  # fmt: skip
    bench.use()
    here = runtime.current()
    with frappe.site("site1"):
        frappe.enqueue_in(3600, tasks.ping)
        for queue in ("short", "long", "short", "long", "long"):
            frappe.enqueue(tasks.ping, queue)
    with frappe.site("site2"):
        frappe.enqueue(tasks.ping)
    here.ledger.pause([Pause("long", None), Pause(None, "site2")])
    assert bench.run("limits").returncode == 0  # puts them in force
    assert bench.run("worker", "--burst").returncode == 0
    found = samples(text(here).decode())
    rows = {row["name"]: row for row in json.loads(bench.run("queues", "--format", "json").stdout)}
    for queue, row in rows.items():
        told = [found[f"frappe_jobs_{name}", queue] for name in ("delayed", "limited", "waiting")]
        assert told == [row["delayed"], row["limited"], row["depth"]], queue
    assert found["frappe_jobs_delayed", "default"] == 1
    assert found["frappe_jobs_limited", "short"] == 2
    assert found["frappe_jobs_paused", "long"] == found["frappe_jobs_waiting", "long"] == 3
    assert found["frappe_jobs_paused", "default"] == 1 and found["frappe_jobs_overdue",] == 0


def test_jobs_that_are_due_and_that_nobody_sends_are_told(watched):
    here = runtime.current()
    with frappe.site("site1"):
        job = frappe.enqueue_in(3600, tasks.ping)
    key = here.ledger._key("delayed", "default")
    here.ledger.redis.zincrby(key, -3700, job.message_id)  # an hour and a half has passed
    assert samples(text(here).decode())["frappe_jobs_overdue",] == 1


def test_a_queue_that_a_message_made_up_has_no_line(ledger):
    recorded(ledger, queue="made up\n")
    assert "made up" not in text(runtime.current()).decode()


def test_a_redis_that_is_away_is_said_and_is_no_error(make_bench):
    bench = make_bench(frappe_jobs_metrics=True)
    bench.write("common_site_config.json", bench.config | {"redis_queue": "redis://127.0.0.1:1/0"})
    bench.use()
    assert samples(text(runtime.current()).decode()) == {("frappe_jobs_redis_up",): 0}


def test_two_processes_say_the_same_and_a_restart_changes_nothing(watched, ledger):
    command = ("metrics", "--port", "0")
    with watched.worker_of(*command) as one, watched.worker_of(*command) as other:
        pages = [asked(Serving(each).port) for each in (one, other)]
        assert "Only this machine" in one.log
    with watched.worker_of(*command) as again:
        pages.append(asked(Serving(again).port))
    assert len({AGES.sub("", page) for page in pages}) == 1
    assert 'frappe_jobs_finished_total{queue="default"} 2.0' in pages[0]


def test_a_worker_says_what_it_is(watched):
    with watched.worker("--concurrency", "2"):
        reports = Reports(runtime.current().ledger)
        (worker,) = wait_until(reports.all, 30)
    assert (worker.queues, worker.processes) == (["short", "default", "long"], 2)
    assert worker.memory > 20_000_000


def test_without_the_extra_it_is_one_line_that_names_it(watched):
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from frappe_jobs.cli import main; main(['metrics'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=watched.environment
    )
    assert done.returncode == 1 and "frappe_jobs[metrics]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(watched):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = watched.run("metrics", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1 and "--port" in done.stderr and "Traceback" not in done.stderr


def names_in(expression):
    return {*re.findall(r"frappe_jobs_\w+", expression)}


def test_the_examples_name_metrics_that_there_are(ledger):
    page = text(runtime.current()).decode()
    served = {*re.findall(r"^(?:# TYPE )?(frappe_jobs_\w+)", page, re.MULTILINE)}
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = re.findall(r"expr: (.+(?:\n\s{10}.+)?)", (EXAMPLES / "alerts.yml").read_text())
    for expression in (*asked, *rules):
        assert names_in(expression) <= served, expression
    assert len(asked) > 10 and len(rules) > 5


@pytest.fixture
def prometheus():
    if not (found := shutil.which("prometheus")):
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("There is no Prometheus here: apt-get install prometheus.")
    return found


def test_promtool_accepts_the_rules_the_configuration_and_the_metrics(prometheus, ledger):
    page = text(runtime.current())
    for arguments, given in (
        (["check", "rules", "alerts.yml"], b""),
        (["check", "config", "prometheus.yml"], b""),
        (["check", "metrics"], page),
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=EXAMPLES, input=given, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def test_a_real_prometheus_scrapes_them_and_answers_the_dashboard(
    prometheus, watched, ledger, tmp_path
):
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    with watched.worker_of("metrics", "--port", "0") as serving:
        config = (EXAMPLES / "prometheus.yml").read_text()
        config = config.replace(":9540", f":{Serving(serving).port}").replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        shutil.copy(EXAMPLES / "alerts.yml", tmp_path)
        port = free_port()
        command = [
            prometheus, "--config.file", "prometheus.yml", "--storage.tsdb.path", "data",
            "--web.listen-address", f"127.0.0.1:{port}",
        ]  # fmt: skip
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)

        def answer(expression):
            query = urllib.parse.urlencode({"query": expression})
            url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
            with urllib.request.urlopen(url, timeout=10) as reply:  # 400 for a wrong expression
                return json.load(reply)["data"]["result"]

        def scraped():
            try:
                return answer('frappe_jobs_finished_total{queue="default"}')
            except urllib.error.URLError:  # it still starts
                return []

        try:
            (finished,) = wait_until(scraped, 60)
            assert finished["value"][1] == "2"
            for panel in dashboard["panels"]:
                for target in panel["targets"]:
                    answer(target["expr"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
