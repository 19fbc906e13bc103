"""Retries as people know them: longer and longer waits, for some errors, and what failed before."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from acme import tasks
from recorded import SOMEBODY, begun, come_due, message

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.errors import ArgumentError
from frappe_jobs.message import FORETOLD, Message
from frappe_jobs.testing import wait_until


class TestWaits:
    @pytest.mark.parametrize(
        ("retry", "waits"),
        [
            (frappe.Retry(9, 10, backoff=2), [10, 20, 40, 80]),
            (frappe.Retry(9, 10, backoff=2, cap=25), [10, 20, 25, 25]),
            (frappe.Retry(9, 10, backoff=1.5), [10, 15, 22, 33]),
            (frappe.Retry(9, [1, 50], cap=30), [1, 30, 30, 30]),
            (frappe.Retry(9, 7), [7, 7, 7, 7]),
        ],
    )
    def test_each_is_longer_than_the_one_before_up_to_the_cap(self, retry, waits):
        assert [retry.delay(attempt) for attempt in (1, 2, 3, 4)] == waits

    def test_of_a_very_late_attempt_it_is_a_number(self):
        assert frappe.Retry(10**6, 10, backoff=100).delay(10**6) < 2**31

    def test_jitter_takes_some_of_it_off(self):
        retry = frappe.Retry(9, 100, jitter=0.5)
        waits = {retry.delay(1) for _ in range(200)}
        assert len(waits) > 10
        assert 50 <= min(waits) <= max(waits) <= 100

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"backoff": 0}, "backoff"), ({"backoff": "2"}, "backoff"),
            ({"backoff": float("nan")}, "backoff"), ({"backoff": True}, "backoff"),
            ({"backoff": 2}, "1 s or more"), ({"backoff": 2, "interval": [1, 2]}, "one number"),
            ({"cap": 0}, "cap"), ({"cap": 1.5}, "cap"), ({"jitter": 2}, "jitter"),
            ({"jitter": None}, "jitter"), ({"only": [5]}, "only"), ({"only": int}, "only"),
            ({"only": "a b"}, "only"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, options, said):
        with pytest.raises(ArgumentError, match=said):
            frappe.Retry(3, **options)

    def test_it_travels_and_the_version_before_reads_what_it_can(self):
        retry = frappe.Retry(30, 10, backoff=2, cap=60, jitter=0.1, only=(ValueError, "acme.Odd"))
        sent = replace(message(), retry=retry)
        header = json.loads(sent.header_json)
        assert Message.from_wire(header, {}).retry == retry
        assert header["retry"] == {"max": 30, "interval": [10, 20, 40] + [60] * (FORETOLD - 3)}
        header.pop("backoff")  # which it does not know
        assert Message.from_wire(header, {}).retry.delay(3) == 40

    def test_a_plain_one_travels_as_it_always_did(self):
        header = replace(message(), retry=frappe.Retry(3, [1, 2])).header()
        assert header["retry"] == {"max": 3, "interval": (1, 2)}
        assert "backoff" not in header


class TestErrors:
    @pytest.mark.parametrize(
        ("only", "error", "allowed"),
        [
            ((), KeyError(), True),
            ((LookupError,), KeyError(), True),
            (("LookupError",), KeyError(), True),
            (("json.decoder.JSONDecodeError",), json.JSONDecodeError("", "", 0), True),
            (ValueError, KeyError(), False),
            (("KeyErr",), KeyError(), False),
        ],
    )
    def test_only_those_that_are_named_and_what_derives_from_them(self, only, error, allowed):
        assert frappe.Retry(1, only=only).allows(error) is allowed

    def test_another_one_fails_the_job_at_once(self, on_redis):
        with on_redis.worker("--queue", "default"):
            job = frappe.enqueue(tasks.fail, retry=frappe.Retry(3, 0, only=LookupError))
            wait_until(lambda: job.get_status() == "failed", 20)
            assert (job.attempt, job.attempts) == (1, [])


class TestAttempts:
    def test_those_before_stay_readable(self, on_each_broker):
        with on_each_broker.worker("--queue", "default"):
            job = frappe.enqueue(tasks.succeed_at_last, attempts=3, retry=frappe.Retry(5, 0))
            job.wait(30)
        first, second = job.attempts
        assert (first["attempt"], second["attempt"], job.attempt) == (1, 2, 3)
        assert first["started_at"] <= first["ended_at"] <= second["started_at"] + 0.1
        assert first["worker"].startswith("default.")
        assert first["error"] and first["reason"]
        shown = on_each_broker.run("jobs", "show", job.id, "--site", "site1").stdout
        assert first["reason"] in shown

    def test_twenty_are_kept_and_little_of_a_long_text(self, bench):
        ledger = runtime.current().ledger
        one = begun(ledger)
        for number in range(1, 26):
            said = {"reason": f"ValueError: \u00fc \n{number}" + "x" * 9999, "error": "ValueError"}
            ledger.wait_for_retry(one, 0, said)
            come_due(ledger, one)
            ledger.start(one, SOMEBODY)
        kept = ledger.read(one.id).attempts
        assert [attempt["attempt"] for attempt in kept] == [*range(6, 26)]
        assert all(len(attempt["reason"]) < 400 for attempt in kept)
        assert "\u00fc" in kept[0]["reason"]

    def test_a_process_that_died_is_one_a_put_off_is_none(self, bench):
        ledger = runtime.current().ledger
        one = begun(ledger)
        ledger.redis.delete(ledger._key("lease", one.id))
        ledger.start(one, SOMEBODY)
        (died,) = ledger.read(one.id).attempts
        assert (died["reason"], died["worker"], died["attempt"]) == (
            "its process died", SOMEBODY, 1,
        )  # fmt: skip
        ledger.wait_for_retry(one, 0, {}, counts=False)
        assert len(ledger.read(one.id).attempts) == 1
