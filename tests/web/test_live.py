"""A page that is open: it changes by itself, and outlives what it shows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import httpx2 as httpx
from acme import tasks
from chaos.servers import Redis
from web.visitor import served

import frappe_jobs as frappe
from frappe_jobs.testing import wait_until


def events(address: str, page: str, query: str = "") -> Iterator[tuple[str, str]]:
    with httpx.stream("GET", f"{address}/live", params={"page": page, "query": query},
                      timeout=30) as stream:  # fmt: skip
        name = ""
        for line in stream.iter_lines():
            key, _, text = line.partition(": ")
            if key == "event":
                name = text
            elif key == "data":
                yield name, json.loads(text)


def test_a_picture_comes_when_something_has_changed(bench):
    with served(bench) as address:
        news = events(address, "/jobs")
        assert "No job is known yet" in next(news)[1]
        with frappe.site("site1"):
            frappe.enqueue(tasks.ping, job_name="parcel 9")
        name, text = next(news)
        assert name == "picture" and "parcel 9" in text
        news.close()


def test_a_job_that_is_deleted_meanwhile_is_said_to_be_gone(bench):
    with frappe.site("site1"):
        job = frappe.enqueue(tasks.ping)
    with served(bench) as address:
        news = events(address, "/job", f"site=site1&id={job.id}")
        assert next(news)[0] == "picture"
        job.delete()
        names = [next(news)[0]]
        while names[-1] == "picture":  # it was cancelled before it was deleted
            names.append(next(news)[0])
        assert names[-1] == "gone"
        news.close()


def test_while_redis_is_away_it_is_said_and_then_the_picture_comes_back(make_bench, tmp_path):
    with Redis(tmp_path / "redis") as redis:
        bench = make_bench(redis_queue=redis.url)
        bench.use()
        with served(bench) as address:
            news = events(address, "/jobs")
            assert next(news)[0] == "picture"
            redis.end()
            name, text = next(news)
            assert name == "away" and redis.url.partition("//")[2] in text
            redis.start()
            assert next(news)[0] == "picture"
            news.close()


def test_a_worker_whose_app_was_changed_since_it_began_is_said_to_be_stale(bench):
    with bench.worker("--queue", "short"):
        later = time.time() + 60
        os.utime(bench.path / "acme" / "tasks.py", (later, later))
        with served(bench) as address:
            wait_until(lambda: ">stale</span>" in httpx.get(f"{address}/").text, 30)
            assert "files have changed since it began: restart it" in httpx.get(f"{address}/").text


def test_no_page_waits_for_the_browsers_word_that_it_has_the_first_part(bench):
    with served(bench) as address, httpx.Client() as browser:

        def fastest(path: str) -> float:
            times = []
            for _ in range(10):
                begun = time.perf_counter()
                browser.get(f"{address}{path}")
                times.append(time.perf_counter() - begun)
            return min(times)

        assert fastest("/doctor") < 0.035
