"""What frappe_jobs.testing gives to the tests of an app, by its own pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.errors import ArgumentError, StillEnqueuing
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.testing import Clock
from frappe_jobs.testing import bench as make_bench
from frappe_jobs.testing import benches, enqueued, forget_jobs, run_due, run_jobs, wait_until


@pytest.fixture
def site(jobs_site):
    """The plugin's, with acme's tables."""
    tasks.install()
    return jobs_site


class TestRunJobs:
    def test_what_jobs_enqueue_is_run_as_well_and_a_handle_knows_the_end(self, site):
        job = frappe.enqueue(tasks.enqueue_further, rollback=False)
        assert [one.method for one in run_jobs()] == [
            "acme.tasks.enqueue_further",
            "acme.tasks.add",
        ]
        assert (job.get_status(), enqueued()) == ("finished", [])
        assert run_jobs() == []

    def test_nothing_of_another_test_is_left(self, site):
        assert (enqueued(), frappe.get_all("Account"), frappe.get_jobs()) == ([], [], {})

    def test_a_commit_only_if_asked_for(self, site):
        frappe.enqueue(tasks.ping, enqueue_after_commit=True)
        assert (enqueued(), run_jobs()) == ([], [])
        assert [job.method for job in run_jobs(commit=True)] == ["acme.tasks.ping"]

    def test_a_failure_is_raised_once_its_end_is_written_and_the_rest_waits(self, site):
        frappe.new_doc("Account", name="cash").insert()
        failing = frappe.enqueue(tasks.deposit, account="cash", fail=True)
        rest = frappe.enqueue(tasks.ping)
        with pytest.raises(ValueError, match="no deposit to cash"):
            run_jobs()
        assert (failing.get_status(), rest.get_status()) == ("failed", "queued")
        assert frappe.get_doc("Account", "cash").balance == 0
        assert run_jobs()[0].result == "pong"

    def test_only_a_queue(self, site):
        frappe.enqueue(tasks.ping, "long")
        frappe.enqueue(tasks.ping, "short")
        assert [job.queue for job in run_jobs(queue="long")] == ["long"]
        assert [job.queue for job in enqueued()] == ["short"]

    def test_jobs_that_enqueue_each_other_for_ever(self, site):
        frappe.enqueue(tasks.enqueue_further, rollback=False)
        with pytest.raises(StillEnqueuing, match="After 1 runs acme.tasks.add still waits"):
            run_jobs(limit=1)

    def test_what_is_paused_waits(self, site, jobs_bench):
        pauses = [Pause("long", None), Pause(None, "site2")]
        jobs_bench.ledger.pause(pauses)
        with frappe.site("site2"):
            frappe.enqueue(tasks.ping)
        frappe.enqueue(tasks.ping, "long")
        frappe.enqueue(tasks.ping, "short")
        assert [job.queue for job in run_jobs()] == ["short"]
        jobs_bench.ledger.end_pauses(pauses)
        assert [job.site for job in run_jobs()] == ["site2", "site1"]

    def test_what_a_limit_has_no_room_for_waits(self, site, jobs_bench):
        jobs_bench.ledger.set_limits({"bench": "rate=2/2", "key": "running=1"})
        jobs = [frappe.enqueue(tasks.ping, concurrency_key="one") for _ in range(3)]
        assert [job.id for job in run_jobs()] == [job.id for job in jobs[:2]]
        wait_until(lambda: [job.id for job in run_jobs()] == [jobs[2].id], 20)

    def test_a_job_is_no_longer_with_the_broker(self, site, jobs_bench):
        frappe.enqueue(tasks.ping)
        assert jobs_bench.broker.depth("default") == 1
        run_jobs()
        assert jobs_bench.broker.depth("default") == 0


class TestEnqueued:
    def test_by_method_queue_and_arguments(self, site):
        frappe.new_doc("Account", name="cash").insert()
        frappe.enqueue(tasks.add, "long", x=1, y=2)
        frappe.enqueue(tasks.add, x=3)
        frappe.enqueue_doc("Account", "cash", "deposit", amount=5)
        frappe.enqueue(tasks.ping, at_front=True)

        def found(*arguments, **options):
            return [(job.queue, job.kwargs.get("x")) for job in enqueued(*arguments, **options)]

        assert found(tasks.add) == found("acme.tasks.add") == [("default", 3), ("long", 1)]
        assert found(tasks.add, queue="long") == [("long", 1)]
        assert found(kwargs={"x": 1}) == found(kwargs={"x": 1, "y": 2}) == [("long", 1)]
        assert found(tasks.add, kwargs={"z": 1}) == found(site="site2") == []
        [of_document] = enqueued("Account.deposit", kwargs={"name": "cash", "amount": 5})
        assert of_document.name == "Account.deposit"
        assert enqueued()[0].method == "acme.tasks.ping"  # as it would run first


class TestClock:
    def test_retries_wait_for_it(self, site, jobs_clock):
        job = frappe.enqueue(tasks.fail, retry=frappe.Retry(2, [60, 300]))

        def attempts_after(**units):
            jobs_clock.move(**units)
            run_jobs(fail_fast=False)
            job.refresh()
            return job.attempt, job.status

        assert attempts_after(seconds=0) == attempts_after(seconds=50) == (1, "queued")
        assert attempts_after(seconds=15) == attempts_after(minutes=4) == (2, "queued")
        assert attempts_after(minutes=2) == (3, "failed")

    def test_a_job_for_later_waits_for_it(self, site, jobs_clock):
        in_an_hour = frappe.enqueue_in(timedelta(hours=1), tasks.ping)
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        frappe.enqueue_at(tomorrow, tasks.add, x=1)
        frappe.enqueue(tasks.echo)
        assert [job.method for job in run_jobs()] == ["acme.tasks.echo"]
        assert {job.method for job in enqueued()} == {"acme.tasks.ping", "acme.tasks.add"}
        jobs_clock.move(hours=1, seconds=1)
        assert [job.method for job in run_jobs()] == ["acme.tasks.ping"]
        assert (in_an_hour.wait(1), [job.method for job in enqueued()]) == (
            "pong",
            ["acme.tasks.add"],
        )
        jobs_clock.move_to(tomorrow)
        assert [job.result for job in run_jobs()] == [1]
        assert run_jobs() == []

    def test_it_is_moved_on_and_back_to_the_real_time_only(self):
        clock = Clock()
        real = clock.now()
        clock.move(timedelta(hours=1), minutes=1)
        assert clock.now() - real == pytest.approx(3660, abs=5)
        then = datetime.now(timezone.utc) + timedelta(days=2)
        clock.move_to(then)
        assert clock.now() == pytest.approx(then.timestamp(), abs=0.1)
        clock.move_to(then.replace(tzinfo=None) + timedelta(days=1))
        assert clock.now() == pytest.approx(then.timestamp() + 86400, abs=0.1)
        with pytest.raises(ArgumentError, match="not back by"):
            clock.move_to(then)
        clock.reset()
        assert clock.now() == pytest.approx(real, abs=5)


class TestRunDue:
    @pytest.fixture
    def often(self, site):
        record = {"method": "acme.tasks.often", "frequency": "Cron", "cron_format": "0 * * * *"}
        return frappe.new_doc("Scheduled Job Type", **record).insert()

    def test_what_is_due_by_the_clock_runs_once(self, often, jobs_clock):
        frappe.db.commit()
        assert run_due() == []
        jobs_clock.move(hours=1)
        assert [job.name for job in run_due()] == ["acme.tasks.often"]
        assert run_due() == []
        jobs_clock.move(hours=3)  # what it missed is made up for once, as by a scheduler
        assert len(run_due()) == 1

    def test_a_job_that_was_stopped_does_not_run(self, often, jobs_clock):
        frappe.db.commit()
        assert run_due() == []
        often.stopped = True
        often.save()
        frappe.db.commit()
        jobs_clock.move(hours=1)
        assert run_due() == []


class TestBench:
    def test_its_hooks_are_known_and_all_of_it_is_gone_at_the_end(self, tmp_path, monkeypatch):
        app = tmp_path / "clockwork"
        app.mkdir()
        (app / "__init__.py").write_text("def tick() -> None:\n    pass\n")
        (app / "hooks.py").write_text("scheduler_events = {'daily': ['clockwork.tick']}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("FRAPPE_REDIS_QUEUE", "redis://127.0.0.1:1/0")  # a production's
        before = runtime.in_use()
        clock = Clock()
        with make_bench(["clockwork"], sites=["one", "two"], config={"developer_mode": 1}) as here:
            clock.move(days=1)
            assert [job.site for job in run_due(clock=clock)] == ["one", "two"]
            with frappe.site("two"):
                assert frappe.conf["developer_mode"] == 1
            folder = here.settings.sites_path
        assert os.environ["FRAPPE_REDIS_QUEUE"] == "redis://127.0.0.1:1/0"
        assert (runtime.in_use(), folder.exists()) == (before, False)
        assert embedded.running(folder.parent) is None

    def test_no_real_server_is_emptied(self, bench):
        with pytest.raises(ArgumentError, match="Only an embedded server"):
            forget_jobs()

    def test_apps_are_found_by_their_hooks(self, tmp_path):
        for name in ("shop", "not-an-app", "plain"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").touch()
        (tmp_path / "shop/hooks.py").touch()
        (tmp_path / "not-an-app/hooks.py").touch()
        assert benches.apps_beside(tmp_path) == ["shop"]


def test_a_run_of_pytest_that_uses_none_of_it_loads_nothing(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.hasplugin('frappe_jobs')\n"
        "    ours = {name for name in sys.modules if name.startswith('frappe_jobs')}\n"
        "    assert ours == {'frappe_jobs', 'frappe_jobs.pytest_plugin'}\n"
        "    assert not {'celery', 'redis', 'sqlalchemy'} & {*sys.modules}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
