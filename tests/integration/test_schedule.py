"""The schedule on its real road: hooks and records → RedBeat's entries → jobs in a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from redbeat.schedulers import RedBeatConfig

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.beat import BenchEntry
from frappe_jobs.errors import ScheduleError
from frappe_jobs.testing import wait_until

OFTEN = "* * * * * *"  # every second
LONG_AGO = datetime(2025, 7, 1, 12, 30, tzinfo=timezone.utc)

HOOKS = """
app_name = "acme"
scheduler_events = {events!r}
"""


@pytest.fixture
def bench(make_bench):
    bench = make_bench(frappe_jobs_scheduler_lock=3)
    with_hooks(bench, {"cron": {OFTEN: ["acme.tasks.often"]}, "daily": ["acme.tasks.ping"]})
    bench.use()
    return bench


def with_hooks(bench, events):
    hooks = bench.path / "acme" / "hooks.py"
    hooks.write_text(HOOKS.format(events=events))


def migrated(bench, *options):
    done = bench.run("--site", "all", "migrate", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def entries(site="site1"):
    """The site's entries by method, each with the time at which it is due."""
    found = runtime.current().timetable.of_site(site).values()
    return {entry.method: due for entry, due in filter(None, found)}


def runs(bench, site="site1"):
    return [mark for mark in bench.marks("often") if mark["site"] == site]


def only_record(method):
    """Of the open site."""
    (found,) = frappe.get_all("Scheduled Job Type", {"method": method})
    return frappe.get_doc("Scheduled Job Type", found["name"])


def set_due(at, site="site1"):
    """All entries of the site, as if they had been due since then."""
    timetable = runtime.current().timetable
    dues = {entry: at for entry, _ in timetable.of_site(site).values()}
    assert timetable.replace(site, timetable.ticket(site), [], dues)


class TestMigrate:
    def test_it_says_what_it_does_and_a_second_time_changes_nothing(self, bench):
        assert (
            migrated(bench, "--dry-run")[-1]
            == "site2: 2 added, 0 changed, 0 removed, 0 unchanged, 0 refused."
        )
        assert entries() == {}
        assert not bench.sites.joinpath("site1", "site.db").exists()
        lines = migrated(bench)
        assert f"site1: added acme.tasks.often ({OFTEN})" in lines
        before = entries()
        assert (
            migrated(bench)[-1] == "site2: 0 added, 0 changed, 0 removed, 2 unchanged, 0 refused."
        )
        assert entries() == before

    def test_what_no_hook_names_any_more_is_removed(self, bench):
        migrated(bench)
        with_hooks(bench, {"daily": ["acme.tasks.ping"]})
        assert "site1: removed acme.tasks.often (* * * * * *)" in migrated(bench)
        assert set(entries()) == {"acme.tasks.ping"}

    def test_one_with_another_schedule_is_changed_and_keeps_what_was_said_of_it(self, bench):
        migrated(bench)
        with frappe.site("site1"):
            record = only_record("acme.tasks.ping")
            record.stopped, record.last_execution = True, LONG_AGO
            record.save()
        with_hooks(
            bench, {"hourly_long": ["acme.tasks.ping"], "cron": {OFTEN: ["acme.tasks.often"]}}
        )
        lines = migrated(bench)
        assert "site1: changed acme.tasks.ping (Daily is now Hourly Long)" in lines
        assert "site1: 0 added, 1 changed, 0 removed, 1 unchanged, 0 refused." in lines
        with frappe.site("site1"):
            found = only_record("acme.tasks.ping")
            assert (found.name, found.frequency, found.queue) == (
                record.name,
                "Hourly Long",
                "long",
            )
            assert (found.stopped, found.last_execution) == (True, LONG_AGO)
        assert set(entries()) == {"acme.tasks.often"}

    def test_an_overdue_run_survives_it(self, bench):
        migrated(bench)
        set_due(LONG_AGO.timestamp())
        migrated(bench)
        assert set(entries().values()) == {LONG_AGO.timestamp()}

    def test_a_wrong_interval_keeps_the_jobs_of_all_from_running_and_no_others(self, bench):
        with_hooks(bench, {"all": ["acme.tasks.ping"], "daily": ["acme.tasks.often"]})
        for wrong in (0, "soon", True):
            bench.write("common_site_config.json", bench.config | {"scheduler_interval": wrong})
            done = bench.run("--site", "site1", "migrate")
            assert done.returncode == 0
            assert f"'scheduler_interval' is {wrong!r}; legal: a whole number" in done.stderr
            assert set(entries()) == {"acme.tasks.often"}
        bench.write("common_site_config.json", bench.config | {"scheduler_interval": 60})
        assert (
            migrated(bench)[-1] == "site2: 2 added, 0 changed, 0 removed, 0 unchanged, 0 refused."
        )
        assert set(entries()) == {"acme.tasks.often", "acme.tasks.ping"}

    def test_an_unknown_time_zone_is_named_and_utc_is_used(self, bench):
        bench.write("site1/site_config.json", {"db_type": "sqlite", "time_zone": "Mars/Base"})
        done = bench.run("--site", "site1", "migrate")
        assert "there is no time zone 'Mars/Base'" in done.stderr
        assert entries()["acme.tasks.ping"] % 86400 == 0

    def test_the_records_say_when_they_are_due(self, bench):
        migrated(bench)
        with frappe.site("site1"):
            record = only_record("acme.tasks.ping")
            assert record.next_execution.timestamp() == entries()["acme.tasks.ping"]
            record.frequency = "Hourly"
            record.save()
        with frappe.site("site1"):
            record = only_record("acme.tasks.ping")
            assert record.next_execution.timestamp() == entries()["acme.tasks.ping"]
            assert record.next_execution.minute == 0
            record.stopped = True
            record.save()
        with frappe.site("site1"):
            assert only_record("acme.tasks.ping").next_execution is None

    def test_a_site_that_is_gone_loses_its_entries(self, bench):
        migrated(bench)
        shutil.rmtree(bench.sites / "site2")
        runtime.current().sync.compare()
        assert entries("site2") == {} != entries("site1")

    def test_who_read_the_records_before_overwrites_nothing_that_is_newer(self, bench):
        migrated(bench)
        sync, timetable = runtime.current().sync.of("site1"), runtime.current().timetable
        ticket = timetable.ticket("site1")
        old = runtime.current().host.schedule.job_types("site1")
        with frappe.site("site1"):
            record = only_record("acme.tasks.ping")
            record.frequency = "Hourly"
            record.save()
        newer = entries()
        sync._bring_in_line(old, ticket)
        assert entries() == newer

    def test_what_is_wrong_is_named_and_the_rest_goes_on(self, bench):
        with_hooks(
            bench, {"hourly": ["acme.tasks.nope", "os.system"], "daily": ["acme.tasks.ping"]}
        )
        done = bench.run("--site", "site1", "migrate")
        assert (
            done.stdout.splitlines()[-1]
            == "site1: 1 added, 0 changed, 0 removed, 0 unchanged, 2 refused."
        )
        assert "acme.tasks.nope (Hourly) gets no entry" in done.stderr
        assert "os.system (Hourly) gets no entry" in done.stderr
        assert set(entries()) == {"acme.tasks.ping"}

    def test_a_site_that_cannot_be_migrated_keeps_no_other_from_it(self, bench):
        bench.write("site1/site_config.json", {"db_type": "oracle"})
        done = bench.run("--site", "all", "migrate")
        assert done.returncode == 1
        assert "site2: 2 added" in done.stdout
        reason, summary = done.stderr.splitlines()
        assert reason.startswith("site1: not migrated: site1: 'db_type' is 'oracle'")
        assert summary == "Error: 1 of 2 sites could not be migrated: site1."
        assert entries("site2").keys() == {"acme.tasks.ping", "acme.tasks.often"}
        url = "postgresql+psycopg://shop:geheim@127.0.0.1:1/shop"
        bench.write("site1/site_config.json", {"frappe_jobs_database_url": url})
        done = bench.run("--site", "all", "migrate", "--dry-run")
        assert (done.returncode, done.stderr.count("\n")) == (1, 2)
        assert "geheim" not in done.stderr
        assert bench.run("--site", "site1", "migrate").returncode == 69

    def test_a_new_daily_job_waits_for_its_time(self, bench):
        migrated(bench)
        midnight = datetime.now(timezone.utc).date() + timedelta(days=1)
        assert datetime.fromtimestamp(entries()["acme.tasks.ping"], timezone.utc).date() == midnight

    def test_each_site_has_its_own_time_zone(self, bench):
        bench.write("site2/site_config.json", {"db_type": "sqlite", "time_zone": "Asia/Kolkata"})
        migrated(bench)
        minutes = [entries(site)["acme.tasks.ping"] % 3600 / 60 for site in ("site1", "site2")]
        assert minutes == [0, 30]


class TestScheduler:
    def test_each_due_time_is_queued_once_though_two_run_and_the_leader_is_killed(self, bench):
        migrated(bench)
        with bench.worker("--queue", "default"), bench.process("schedule") as one:
            wait_until(lambda: "this scheduler leads" in one.log, 10)
            with bench.process("schedule") as two:
                wait_until(lambda: "another scheduler leads" in two.log, 10)
                wait_until(lambda: len(runs(bench)) >= 3, 10)
                one.process.kill()
                wait_until(lambda: "this scheduler leads" in two.log, 10)
                count = len(runs(bench))
                wait_until(lambda: len(runs(bench)) >= count + 3, 10)
                assert two.stop() == 0
        due = Counter(key for key in keys("due:site1:*"))
        assert len(due) == len(runs(bench))

    def test_it_runs_as_administrator_and_notes_when_and_leaves_a_log(self, bench):
        migrated(bench)
        with bench.worker("--queue", "default"), bench.process("schedule"):
            wait_until(lambda: runs(bench), 15)
        assert runs(bench)[0]["user"] == "Administrator"
        with frappe.site("site1"):
            (record,) = frappe.get_all(
                "Scheduled Job Type", {"method": "acme.tasks.often"}, ["name", "last_execution"]
            )
            assert datetime.now(timezone.utc) - record["last_execution"] < timedelta(minutes=1)
            logs = frappe.get_all(
                "Scheduled Job Log", {"scheduled_job_type": record["name"]}, ["*"]
            )
        assert {log["status"] for log in logs} == {"Complete"}
        assert all(log["duration"] >= 0 for log in logs)

    def test_a_site_that_is_paused_gets_nothing_and_the_other_one_never_notices(self, bench):
        migrated(bench)
        bench.run("--site", "site1", "scheduler", "pause")
        with bench.worker("--queue", "default"), bench.process("schedule"):
            wait_until(lambda: len(runs(bench, "site2")) >= 3, 15)
        assert runs(bench) == []
        assert "site1  paused" in bench.run("--site", "site1", "scheduler", "status").stdout

    def test_a_worker_pool_keeps_one_beside_its_workers_where_it_is_asked_for(self, bench):
        migrated(bench)
        pool = "worker-pool", "--queue", "default", "--num-workers", "1"
        with bench.worker_of(*pool, "--scheduler") as one:
            assert one.lines.count("ready") == 1
            wait_until(lambda: runs(bench), 15)
            before = {*one.children}
            scheduler = int(runtime.current().timetable.leader().split("/")[1])
            os.kill(scheduler, signal.SIGKILL)
            wait_until(lambda: f"scheduler {scheduler} ended with -9" in one.log, 10)
            count = len(runs(bench))
            wait_until(lambda: len(runs(bench)) > count + 1, 15)
            assert before - {*one.children} == {scheduler}, "its worker is the same"
            assert one.stop() == 0
        with bench.worker_of(*pool) as without:
            assert len(without.children) == 1
        refused = bench.run(*pool, "--scheduler", "--burst")
        assert refused.returncode == 2 and "--burst" in refused.stderr

    def test_after_downtime_a_job_runs_once_not_once_for_each_missed_time(self, bench):
        migrated(bench)
        set_due(time.time() - 3600)
        with bench.process("schedule") as scheduler:
            wait_until(lambda: entries()["acme.tasks.ping"] > time.time(), 10)
            assert scheduler.stop() == 0
        with frappe.site("site1"):
            waiting = [job for job in frappe.get_jobs("site1")["site1"]]
        assert len(waiting) == 2

    def test_a_flushed_schedule_comes_back_by_itself(self, bench):
        migrated(bench)
        before = entries()
        with bench.process("schedule") as scheduler:
            wait_until(lambda: "this scheduler leads" in scheduler.log, 10)
            runtime.current().ledger.redis.delete(*keys("redbeat:*"))  # at once, as a flush
            wait_until(lambda: entries().keys() == before.keys(), 10)
            assert entries()["acme.tasks.ping"] == before["acme.tasks.ping"]

    def test_what_the_methods_modules_take_is_not_kept_in_its_memory(self, bench):
        imported_by = bench.path / "imported_by"
        (bench.path / "acme" / "heavy.py").write_text(
            f"import os\nwith open({str(imported_by)!r}, 'a') as file:\n"
            "    print(os.getpid(), file=file)\n"
            "def work(): pass\n"
        )
        with_hooks(bench, {"daily": ["acme.heavy.work"]})
        migrated(bench)
        imported_by.unlink()
        with bench.process("schedule") as scheduler:
            wait_until(imported_by.exists, 20)
            wait_until(lambda: len(scheduler.children) == 0, 20)
            assert str(scheduler.process.pid) not in imported_by.read_text().split()
            assert entries().keys() == {"acme.heavy.work"}

    def test_with_nothing_to_do_it_says_so_and_stays(self, make_bench):
        with make_bench().process("schedule") as scheduler:
            wait_until(lambda: "nothing is scheduled" in scheduler.log, 15)
            scheduler.process.send_signal(signal.SIGTERM)
            assert scheduler.process.wait(10) == 0

    def test_where_the_queue_is_full_a_due_time_waits_and_nothing_spins(self, make_bench):
        bench = make_bench(max_queued_jobs=1)
        with_hooks(bench, {"cron": {OFTEN: ["acme.tasks.often", "acme.tasks.ping"]}})
        bench.use()
        migrated(bench)
        for site in ("site1", "site2"):  # all four, whatever second it is
            set_due(LONG_AGO.timestamp(), site)
        with bench.process("schedule") as scheduler:
            wait_until(lambda: "scheduled jobs wait: 'max_queued_jobs' is 1" in scheduler.log, 15)
            wait_until(lambda: score("site1") > time.time() + 10, 5)
            assert scheduler.log.count("4 scheduled jobs wait") == 1
            assert set(entries().values()) == {LONG_AGO.timestamp()}

    def test_an_unknown_queue_is_said_and_the_job_goes_to_default(self, make_bench):
        bench = make_bench(workers={"reports": {}})
        with_hooks(bench, {"daily": ["acme.tasks.ping"]})
        bench.use()
        migrated(bench)
        with frappe.site("site1"):
            record = only_record("acme.tasks.ping")
            record.queue = "report"
            with pytest.raises(ScheduleError, match="'queue' is 'report'; legal: short, default"):
                record.save()
            record.queue = "reports"
            record.save()
        bench.write("common_site_config.json", bench.config | {"workers": {}})
        set_due(LONG_AGO.timestamp())
        with bench.process("schedule") as scheduler:
            wait_until(lambda: frappe.get_jobs("site1"), 10)
            wait_until(lambda: "acme.tasks.ping on site1 goes to 'default'" in scheduler.log, 10)
        assert frappe.get_jobs("site1", key="queue") == {"site1": ["default"]}

    def test_old_logs_are_cleared_when_the_leader_looks_after_the_records(self, bench):
        migrated(bench)
        with frappe.site("site1"):
            name = only_record("acme.tasks.ping").name
            for days in (6, 8):
                at = datetime.now(timezone.utc) - timedelta(days=days)
                frappe.new_doc(
                    "Scheduled Job Log", name=str(days), scheduled_job_type=name, creation=at
                ).insert()
        with bench.process("schedule"):
            wait_until(lambda: logs() == ["6"], 15)

    def test_redbeats_own_scheduler_says_in_a_line_what_to_use(self, bench):
        migrated(bench)
        leader = runtime.current().timetable.leader()
        command = [sys.executable, "-m", "celery", "-q", "-A", "frappe_jobs", "beat"]
        done = subprocess.run(
            [*command, "-S", "redbeat.RedBeatScheduler"], cwd=bench.path, env=bench.environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert "use 'frappe-jobs schedule'" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        assert runtime.current().timetable.leader() == leader

    def test_redbeats_own_tools_read_the_entries(self, bench):
        migrated(bench)
        app = runtime.current().app
        app.redbeat_conf = RedBeatConfig(app)
        (key,) = [key for key in keys("redbeat:site1:*") if "hash" == kind(key) and daily(key, app)]
        assert BenchEntry.from_key(key, app=app).kwargs["method"] == "acme.tasks.ping"


class TestRecords:
    """Made, changed and deleted in code; in force after the commit, and only then."""

    @pytest.fixture
    def migrated(self, bench):
        with_hooks(bench, {})
        migrated(bench)
        return bench

    def test_a_job_of_an_event_is_scheduled_changed_and_removed_with_the_commits(self, migrated):
        with frappe.site("site1"):
            event = frappe.new_doc("Scheduler Event", scheduled_against="Account").insert()
            event.method = "acme.tasks.often"
            event.save()
            record = frappe.new_doc(
                "Scheduled Job Type", scheduler_event=event.name, frequency="Daily"
            ).insert()
            assert entries() == {}
        daily = entries()["acme.tasks.often"]
        with frappe.site("site1"):
            record = frappe.get_doc("Scheduled Job Type", record.name)
            record.frequency, record.cron_format = "Cron", OFTEN
            record.save()
        assert entries()["acme.tasks.often"] < daily
        assert migrated_lines(migrated)[0].startswith(
            "site1: 0 added, 0 changed, 0 removed, 0 unchanged"
        )
        assert entries()["acme.tasks.often"] < daily
        with frappe.site("site1"):
            frappe.get_doc("Scheduled Job Type", record.name).delete()
            assert entries() != {}
        assert entries() == {}

    def test_what_is_rolled_back_never_reaches_the_schedule(self, migrated):
        with pytest.raises(ZeroDivisionError), frappe.site("site1"):
            frappe.new_doc(
                "Scheduled Job Type", method="acme.tasks.often", frequency="Daily"
            ).insert()
            1 / 0
        assert entries() == {}

    def test_a_stopped_job_is_not_scheduled_and_stays_stopped(self, bench):
        migrated(bench)
        with frappe.site("site1"):
            (found,) = frappe.get_all("Scheduled Job Type", {"method": "acme.tasks.often"})
            record = frappe.get_doc("Scheduled Job Type", found["name"])
            record.stopped = True
            record.save()
        assert set(entries()) == {"acme.tasks.ping"}
        migrated(bench)
        assert set(entries()) == {"acme.tasks.ping"}

    def test_a_change_is_in_force_within_seconds_while_the_scheduler_runs(self, migrated):
        with migrated.worker("--queue", "default"), migrated.process("schedule") as scheduler:
            wait_until(lambda: "this scheduler leads" in scheduler.log, 10)
            with frappe.site("site1"):
                frappe.new_doc(
                    "Scheduled Job Type", method="acme.tasks.often", frequency="Cron",
                    cron_format=OFTEN,
                ).insert()  # fmt: skip
            wait_until(lambda: runs(migrated), 5)


class TestCommands:
    def listed(self, bench, *options):
        done = bench.run("--site", "site1", "scheduled-jobs", "list", "--format", "json", *options)
        return {row["method"]: row for row in json.loads(done.stdout)}

    def test_jobs_are_listed_stopped_started_changed_and_deleted(self, bench):
        migrated(bench)
        site1 = ("--site", "site1", "scheduled-jobs")
        row = self.listed(bench)["acme.tasks.ping"]
        assert (row["frequency"], row["queue"], row["stopped"]) == ("Daily", "default", False)
        assert row["next_execution"].endswith("+00:00")
        bench.run(*site1, "stop", "acme.tasks.ping")
        assert self.listed(bench)["acme.tasks.ping"]["next_execution"] is None
        bench.run(*site1, "start", row["name"])
        bench.run(*site1, "edit", "acme.tasks.ping", "--frequency", "Hourly", "--queue", "long")
        row = self.listed(bench)["acme.tasks.ping"]
        assert (row["frequency"], row["queue"]) == ("Hourly", "long")
        bench.run(*site1, "delete", "acme.tasks.ping")
        assert set(self.listed(bench)) == {"acme.tasks.often"} == set(entries())
        assert set(entries("site2")) == {"acme.tasks.ping", "acme.tasks.often"}

    def test_one_that_is_added_shows_its_times_and_outlives_migrate(self, bench):
        migrated(bench)
        site1 = ("--site", "site1", "scheduled-jobs")
        bad = bench.run(*site1, "add", "acme.tasks.add", "--frequency", "Cron", "--cron", "x")
        assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
        bench.run(*site1, "add", "acme.tasks.add", "--frequency", "Cron", "--cron", "0 4 * * *")
        migrated(bench)
        shown = bench.run(*site1, "show", "acme.tasks.add").stdout
        assert shown.count("T04:00:00+00:00") == 5
        unknown = bench.run(*site1, "show", "acme.tasks.nope")
        assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)

    def test_times_are_those_of_each_sites_zone_in_every_listing(self, bench):
        bench.write("site2/site_config.json", {"db_type": "sqlite", "time_zone": "Asia/Kolkata"})
        migrated(bench)
        done = bench.run("--site", "all", "scheduled-jobs", "list", "--format", "json")
        rows = [row for row in json.loads(done.stdout) if row["method"] == "acme.tasks.ping"]
        times = [row["next_execution"][11:] for row in rows]  # by the time, and not by its text
        times = times if kolkata_comes_first() else times[::-1]
        assert times == ["00:00:00.000+05:30", "00:00:00.000+00:00"]
        shown = bench.run("--site", "site2", "scheduled-jobs", "show", "acme.tasks.ping").stdout
        assert "next_execution: 2" in shown and shown.count("T00:00:00") == 6
        assert shown.count("+05:30") == 6

    def test_a_trigger_queues_it_once_now(self, bench):
        migrated(bench)
        before = entries()
        done = bench.run("--site", "site1", "trigger-scheduler-event", "acme.tasks.often")
        assert done.stdout == "site1: acme.tasks.often is queued.\n"
        again = bench.run("--site", "site1", "scheduled-jobs", "run", "acme.tasks.often")
        assert again.stdout == "site1: acme.tasks.often is queued.\n"
        assert entries() == before
        assert len(frappe.get_jobs("site1")["site1"]) == 1


def kolkata_comes_first():
    """Whether its midnight is the next one: until 18:30 in UTC."""
    now = datetime.now(timezone.utc)
    return now.hour * 60 + now.minute < 18 * 60 + 30


def migrated_lines(bench):
    return [line for line in migrated(bench) if line.startswith("site1")]


def score(site):
    """When the scheduler looks at the site's next entry."""
    timetable = runtime.current().timetable
    pairs = timetable.redis.zrange(timetable.schedule_key, 0, -1, withscores=True)
    return min(at for key, at in pairs if f":{site}:" in key)


def logs():
    with frappe.site("site1"):
        return [row["name"] for row in frappe.get_all("Scheduled Job Log")]


def keys(pattern):
    here = runtime.current()
    return list(here.ledger.redis.scan_iter(here.settings.prefix + pattern))


def kind(key):
    return runtime.current().ledger.redis.type(key)


def daily(key, app):
    return BenchEntry.from_key(key, app=app).kwargs["method"] == "acme.tasks.ping"
