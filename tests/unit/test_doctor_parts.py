"""The doctor's words, and its patience with sites that are silent."""

from __future__ import annotations

import threading
import time

import pytest
from recorded import message

from frappe_jobs.brokers.base import OnlineWorker
from frappe_jobs.config import Settings
from frappe_jobs.doctor.asking import THREADS, ask_each
from frappe_jobs.doctor.mending import Mendable, mended
from frappe_jobs.doctor.text import SITES, duration, names, number, of_sites
from frappe_jobs.doctor.workers import EACH, check_code, check_queues, check_sisters, check_workers
from frappe_jobs.errors import BrokerUnavailable
from frappe_jobs.ledger.record import QUEUED, Record
from frappe_jobs.testing import slowness
from frappe_jobs.texts.finding import Finding


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
        (3600 * 47, "47 h"), (3600 * 48, "2 days"), (3600 * 100, "4 days"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_told_in_the_largest_unit_of_which_there_are_two(seconds, text):
    assert duration(seconds) == text


def test_a_number_says_what_of():
    assert [number(count, "job") for count in (0, 1, 1200)] == ["0 jobs", "1 job", "1,200 jobs"]
    assert number(2, "process", "processes") == "2 processes"


def test_of_many_names_the_first_are_told():
    assert [names("abc"[:length]) for length in (0, 1, 3)] == ["", "a", "a, b, c"]
    assert names("abcde") == "a, b, c and 2 more"


def test_few_sites_have_a_line_each_and_many_share_one():
    few = {f"site{number}": f"text {number}" for number in range(SITES)}
    findings = [*of_sites("warning", few, "are odd", lambda site: f"cure {site}")]
    assert findings[0] == Finding("warning", "site0: text 0", "cure site0")
    assert len(findings) == SITES
    (found,) = of_sites("warning", few | {"more": "text"}, "are odd", lambda site: f"cure {site}")
    assert found.what == f"{SITES + 1} sites are odd: site0, site1, site2 and 3 more. text 0"
    assert found.cure == "cure all"


def test_many_bench_ids_with_jobs_of_this_benchs_sites_are_one_finding(tmp_path):
    settings = Settings(sites_path=tmp_path, custom_bench_id="releases-9")
    found = {f"a-{number}": number for number in range(1, 8)} | {"releases-8": 1, "b": -1}
    (one,) = check_sisters(settings, found, {"a-7:short", "releases-9:short"})
    assert one.level == "warning" and one.what == (
        "Jobs of this bench's sites are under other bench ids, which no worker serves: "
        "'releases-8' (1 job), 'a-1' (1 job), 'a-2' (2 jobs) and 5 more; this bench's id is "
        "'releases-9'."
    )
    assert "FRAPPE_BENCH_ID=releases-8 frappe-jobs worker --burst runs them" in one.cure
    assert [*check_sisters(settings, {"there": 3}, {"there:long"})] == []
    (unknown,) = check_sisters(settings, {"b": -1}, ())
    assert "no worker serves: 'b' (jobs); this" in unknown.what


class TestPatience:
    def test_all_who_answer_are_heard(self):
        sites = [str(number) for number in range(100)]
        assert ask_each(sites, int) == {site: int(site) for site in sites}
        assert ask_each([], int) == {}

    @pytest.mark.parametrize("silent", [1, THREADS - 1, THREADS + 3])
    def test_those_who_are_silent_are_not_waited_for(self, silent):
        never = threading.Event()
        sites = [*map(str, range(silent + 20))]

        def ask(site):
            if int(site) < silent:
                never.wait(10)
            return site

        began = time.monotonic()
        found = ask_each(sites, ask, silent_after=0.2)
        never.set()
        assert time.monotonic() - began < slowness()
        assert len(found) == (20 if silent < THREADS else 0)


class TestMending:
    def finding(self, mend):
        return Mendable("error", "something is wrong", "--fix", mend, "it is right.")

    def test_what_is_mended_is_ok_and_the_rest_stays(self):
        done = []
        other = Finding("warning", "something else")
        found = [*mended([self.finding(lambda: done.append(1)), other])]
        assert found == [Finding("ok", "Mended: it is right."), other]
        assert done == [1]

    def test_what_cannot_be_mended_stays_and_says_why(self):
        def fail():
            raise BrokerUnavailable("the broker is away")

        (found,) = mended([self.finding(fail)])
        assert (found.level, found.what) == ("error", "something is wrong")
        assert found.cure == "It could not be mended: the broker is away"


@pytest.fixture
def wide(tmp_path):
    """A bench with fifty-three queues."""
    return Settings(sites_path=tmp_path, workers={f"queue-{n}": {"timeout": 60} for n in range(50)})


def test_of_many_queues_that_nobody_serves_the_fullest_are_told_one_by_one(wide):
    waiting = {queue: place for place, queue in enumerate(wide.queues)}
    worker = OnlineWorker("worker@here", ["short"], 2, 0.0)
    _, *found = check_workers(wide, [worker], waiting)
    assert len(found) == EACH + 1
    assert found[0].what == "No worker serves the queue 'queue-49', with its 52 waiting jobs."
    assert found[-1].what.startswith("No worker serves 47 more queues: queue-44, ")
    assert found[-1].level == "error" and "--queue queue-44,queue-43" in found[-1].cure


def test_of_many_queues_whose_jobs_wait_for_too_long_the_worst_are_told_one_by_one(wide):
    now = time.time()
    records = [
        Record(message(queue=queue, enqueued_at=now - 10_000 - place), QUEUED)
        for place, queue in enumerate(wide.queues)
    ]
    _, *found = check_queues(wide, {}, records, now)
    assert len(found) == EACH + 1 and "'queue-49'" in found[0].what
    assert found[-1].what == (
        "In 48 more queues jobs have waited for too long as well: queue-44, queue-43, queue-42 and "
        "45 more; 48 jobs."
    )


def test_where_no_worker_is_online_no_disk_is_looked_at():
    assert [*check_code([], pytest.fail)] == []
