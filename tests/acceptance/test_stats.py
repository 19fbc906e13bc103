"""``frappe-jobs stats``, on jobs that real workers ran, on both brokers."""

from __future__ import annotations

import json

import pytest
from acme import tasks

import frappe_jobs as frappe


@pytest.fixture(params=["redis", "rabbitmq"])
def watched(request, make_bench):
    options = {}
    if request.param == "rabbitmq":
        options["celery_broker_url"] = request.getfixturevalue("amqp_url")
    bench = make_bench(frappe_jobs_history=True, **options)
    bench.use()
    with frappe.site("site1"):
        yield bench


def stats(bench, *arguments):
    done = bench.run("stats", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_says_what_workers_did(watched):
    for what in ("ping", "ping", "fail"):
        frappe.enqueue(f"acme.tasks.{what}", queue="short")
    assert watched.run("worker", "--burst").returncode == 0
    (row,) = stats(watched)["rows"]
    assert row["name"] == "short"
    total = row["total"]
    assert (total["enqueued"], total["started"]) == (3, 3)
    assert (total["finished"], total["failed"]) == (2, 1)
    assert 0 < total["waited_p50"] < 60 and 0 < total["run_p95"] < 60
    by_method = stats(watched, "--by", "method")["rows"]
    assert [row["name"] for row in by_method] == ["acme.tasks.ping", "acme.tasks.fail"]
    (site,) = stats(watched, "--site", "site1")["rows"]
    assert site["total"] == total
    shown = watched.run("stats", "--queue", "short").stdout.splitlines()
    assert shown[0].startswith("FROM") and shown[-1].split()[:6] == [
        "in",
        "all",
        "3",
        "3",
        "2",
        "1",
    ]
    assert " -  " in shown[1]  # before anybody recorded


def test_a_name_that_nothing_is_known_of_has_no_data(watched):
    frappe.enqueue(tasks.ping)
    (row,) = stats(watched, "--site", "nobody")["rows"]
    assert row["total"]["enqueued"] == 0
    assert row["places"][0] is None


def test_where_nothing_is_recorded_it_names_the_setting(bench):
    done = bench.run("stats")
    assert done.returncode == 1 and "frappe_jobs_history" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--since", "1"], ["--since", "31d"], ["--since", "-1h"], ["--since", "9" * 9 + "d"],
     ["--queue", "a", "--method", "b"], ["--by", "user"]],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(bench, arguments):
    done = bench.run("stats", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
