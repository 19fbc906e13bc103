"""What the doctor says of sites, their hooks and records, and of who queues by the clock."""

from __future__ import annotations

import json
import socket
import time

import pytest
from doctored import clock_ahead, one

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.doctor.mending import mended
from frappe_jobs.testing import slowness, wait_until

DAILY = {"daily": ["acme.tasks.ping", "acme.tasks.often"]}


@pytest.fixture
def bench(make_bench):
    """Its two sites have two scheduled jobs each; nobody queues them."""
    return migrated(make_bench(frappe_jobs_scheduler_lock=3))


def migrated(bench):
    """It has hooks of its own: this process imports them, as it does those of other benches."""
    bench.sites.joinpath("apps.txt").write_text(f"acme\n{app_of(bench)}\n")
    with_hooks(bench, DAILY)
    done = bench.run("--site", "all", "migrate")
    assert done.returncode == 0, done.stderr
    bench.use()
    return bench


def app_of(bench):
    return bench.id.replace("-", "_")


def with_hooks(bench, events, more=""):
    app = bench.path / app_of(bench)
    app.mkdir(exist_ok=True)
    (app / "__init__.py").touch()
    (app / "hooks.py").write_text(f"scheduler_events = {events!r}\n{more}")


def said(*sites):
    """What is said of them, with what is said of the servers."""
    checkup = Checkup(parts_of(runtime.current()), sites or None)
    return [*checkup.configuration(), *checkup.servers(), *checkup.schedule(), *checkup.clocks()]


def in_a_command(bench, *arguments):
    """The same, by a process that knows the hooks as they are now."""
    found = json.loads(bench.run(*arguments, "doctor", "--format", "json").stdout)
    return [(row["level"], row["what"], row["cure"]) for row in found]


def level_of(findings, text):
    return one(findings, text).level


class TestScheduler:
    def test_without_one_scheduled_jobs_are_an_error_and_with_one_it_is_told(self, bench):
        error = one(said(), "No scheduler has ever run, so none of 4 scheduled jobs is queued.")
        assert (error.level, error.cure) == ("error", "Start one: frappe-jobs schedule.")
        with bench.process("schedule") as scheduler:
            found = wait_until(lambda: [o for o in said() if "scheduler leads" in o.what], 10)[0]
            assert found.level == "ok"
            assert f"/{scheduler.process.pid}/" in found.what and "ago" in found.what
            assert "the scheduler " in one(said(), "clocks agree").what
            scheduler.process.kill()
        wait_until(lambda: [o for o in said() if "No scheduler has run for" in o.what], 10)
        error = one(said("site1"), "No scheduler has run for")
        assert f"/{scheduler.process.pid}/" in error.what
        assert (error.level, "none of 2 scheduled jobs" in error.what) == ("error", True)

    def test_where_nothing_is_scheduled_none_is_needed(self, make_bench):
        make_bench().use()
        assert level_of(said(), "no scheduled job needs one") == "ok"

    def test_jobs_of_sites_that_are_inactive_need_none(self, bench):
        for site in ("site1", "site2"):
            bench.run("--site", site, "scheduler", "disable")
        assert level_of(said(), "no scheduled job needs one") == "ok"

    def test_jobs_that_are_overdue_though_one_leads_are_an_error(self, make_bench):
        bench = migrated(make_bench(frappe_jobs_scheduler_lock=3, max_queued_jobs=1))
        with frappe.site("site2"):
            frappe.enqueue("acme.tasks.ping")  # now the queue is full
        with bench.process("schedule") as scheduler:
            wait_until(lambda: "this scheduler leads" in scheduler.log, 10)
            set_back("site1", 3600)
            wait_until(lambda: "scheduled jobs wait" in scheduler.log, 10)
            error = one(said(), "overdue")
            assert error.what.startswith("site1: 2 scheduled jobs overdue, though a scheduler")
            assert error.what.endswith("the first for 60 min.")
            assert (error.level, "max_queued_jobs" in error.cure) == ("error", True)
            bench.run("--site", "site1", "scheduler", "pause")
            assert not [finding for finding in said() if "overdue" in finding.what]


def set_back(site, seconds):
    """As if its entries had been due so long ago."""
    timetable = runtime.current().timetable
    due = time.time() - seconds
    entries = [found[0] for found in timetable.of_site(site).values()]
    # A comparison that begins in between makes the ticket one of before.
    wait_until(
        lambda: timetable.replace(site, timetable.ticket(site), [], dict.fromkeys(entries, due)), 10
    )


def test_a_schedulers_clock_that_is_wrong_is_told(bench):
    with clock_ahead(bench, 25), bench.process("schedule"):
        found = wait_until(
            lambda: [o for o in said() if "The clock of the scheduler" in o.what], 10
        )
    assert "25 s ahead of Redis's; jobs are still due by Redis's" in found[0].what
    assert found[0].level == "warning"


class TestEntries:
    def test_those_that_are_not_as_the_records_say_are_told_and_mended(self, bench):
        here = runtime.current()
        timetable, types = here.timetable, here.host.schedule.job_types("site1")
        assert level_of(said(), "2 sites with 4 scheduled jobs: the databases answer") == "ok"
        first, second = (here.sync.of("site1").entry(record) for record in types)
        left = type(first)("site1", "left", *(getattr(first, name) for name in FIELDS))
        timetable.replace(
            "site1", timetable.ticket("site1"), [first.name], {left: 1e10, changed(second): 1e10}
        )
        found = one(said(), "RedBeat's entries are not as its records say")
        assert found.what.startswith("site1: ")
        assert found.what.endswith("say: 1 missing, 1 changed, 1 left over.")
        assert (found.level, "--site site1 doctor --fix" in found.cure) == ("warning", True)
        assert not [o for o in said("site2") if "RedBeat's" in o.what]
        done = one(mended(said()), "Mended")
        assert (done.level, "records say: site1" in done.what) == ("ok", True)
        assert level_of(said(), "2 sites with 4 scheduled jobs") == "ok"
        assert set(timetable.of_site("site1")) == {first.name, second.name}

    def test_those_of_a_site_that_is_gone_are_told_and_mended(self, bench):
        (bench.sites / "site2").rename(bench.path / "moved")
        assert not [o for o in said("site1") if "do not exist" in o.what]
        found = one(said(), "RedBeat has entries of sites that do not exist: site2.")
        assert (found.level, found.cure) == ("warning", "frappe-jobs doctor --fix")
        assert level_of(mended(said()), "Mended: the entries of sites") == "ok"
        assert not [o for o in said() if "do not exist" in o.what]
        assert runtime.current().timetable.sites() == {"site1"}


FIELDS = ("method", "queue", "schedule", "zone")


def changed(entry):
    return type(entry)(entry.site, entry.name, entry.method, "long", entry.schedule, entry.zone)


class TestHooksAndRecords:
    def test_what_migrate_would_do_is_a_warning_with_its_command(self, bench):
        with_hooks(bench, {"daily": ["acme.tasks.ping"], "weekly": ["acme.tasks.add"]})
        found = in_a_command(bench, "--site", "site2")
        level, what, cure = one(found, "its records are not as its hooks say")
        assert what == ("site2: its records are not as its hooks say: 1 to add, 1 to remove.")
        assert (level, cure) == ("warning", "frappe-jobs --site site2 migrate")
        bench.run("--site", "all", "migrate")
        assert not [o for o in in_a_command(bench) if "as its hooks say" in o[1]]

    def test_hooks_that_are_refused_are_errors(self, bench):
        with_hooks(bench, {"daily": ["acme.tasks.nope"], "cron": {"60 * * * *": ["acme.tasks.x"]}})
        found = in_a_command(bench)
        level, what, cure = one(found, "acme.tasks.nope (Daily) gets no entry")
        assert (level, what.startswith("site1, site2: App 'test_")) == ("error", True)
        assert "Mend the path" in cure
        assert one(found, "scheduler_events['cron']['60 * * * *']")[0] == "error"

    def test_hooks_that_cannot_be_imported_are_an_error(self, bench):
        with_hooks(bench, {}, "1 / 0")
        found = one(in_a_command(bench, "--site", "site1"), f"importing {app_of(bench)}.hooks")
        assert found[0] == "error" and found[1].startswith("site1: its jobs cannot run")

    def test_a_record_whose_method_is_gone_is_an_error(self, bench):
        bench.run(
            "--site", "site1", "scheduled-jobs", "add", "acme.tasks.add", "--frequency", "Daily"
        )
        tasks = bench.path / "acme" / "tasks.py"
        tasks.write_text(tasks.read_text().replace("def add(", "def add_up("))
        level, what, cure = one(in_a_command(bench), "acme.tasks.add")
        assert (level, what.startswith("site1: the scheduled job ")) == ("error", True)
        assert "scheduled-jobs stop" in cure
        bench.run(*cure.partition("frappe-jobs ")[2].rstrip(".").split())
        assert not [o for o in in_a_command(bench) if "acme.tasks.add" in o[1]]

    def test_a_time_zone_that_does_not_exist_is_an_error(self, bench):
        bench.write("site2/site_config.json", {"db_type": "sqlite", "time_zone": "Mars/Olympus"})
        error = one(said(), "Mars/Olympus")
        assert (error.level, "UTC is used" in error.cure) == ("error", True)


class TestSites:
    def test_those_that_are_inactive_are_told_with_the_way_back(self, bench):
        bench.run("--site", "site1", "scheduler", "pause")
        bench.run("--site", "site2", "scheduler", "disable")
        paused, disabled = one(said(), "site1: paused"), one(said(), "site2: disabled")
        assert (paused.level, paused.cure) == (
            "warning",
            "frappe-jobs --site site1 scheduler resume",
        )
        assert (disabled.level, disabled.cure) == (
            "ok",
            "frappe-jobs --site site2 scheduler enable",
        )
        bench.run("--site", "site1", "scheduler", "resume")
        bench.run("--site", "site1", "set-maintenance-mode", "on")
        found = one(said("site1"), "site1: in maintenance mode")
        assert found.level == "warning"
        bench.run(*found.cure.removeprefix("frappe-jobs ").split())
        assert not [o for o in said("site1") if "its scheduled jobs are not queued" in o.what]

    def test_one_whose_database_is_down_is_an_error_and_the_other_is_looked_at(self, bench):
        url = "postgresql+psycopg://shop:geheim@127.0.0.1:1/shop"
        bench.write("site2/site_config.json", {"frappe_jobs_database_url": url})
        error = one(said(), "its jobs wait: ")
        assert error.level == "error" and error.what.startswith("site2: ")
        assert "geheim" not in error.what
        assert level_of(said(), "1 site with 2 scheduled jobs: the databases answer") == "ok"

    def test_one_whose_database_is_silent_is_not_waited_for(self, bench):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql+psycopg://shop:shop@127.0.0.1:{silent.getsockname()[1]}/shop"
            bench.write("site2/site_config.json", {"frappe_jobs_database_url": url})
            began = time.monotonic()
            found = said()
            assert time.monotonic() - began < 10 * slowness()
            assert level_of(found, "site2: its database was silent for 3 s") == "error"
            assert level_of(found, "1 site with 2 scheduled jobs") == "ok"

    def test_one_whose_database_is_damaged_is_an_error(self, bench):
        (database,) = (bench.sites / "site1").glob("**/*.db")
        for file in database.parent.glob(database.name + "*"):
            file.write_bytes(b"no database" * 1000)
        error = one(said("site1"), "its schedule cannot be read")
        assert (error.level, "DatabaseError" in error.what) == ("error", True)

    def test_of_very_many_one_line_tells(self, bench):
        for number in range(10):
            bench.write(f"more{number}/site_config.json", {"db_type": "sqlite"})
        found = one(said(), "have records that are not as their hooks say")
        assert found.what.startswith(
            "10 sites have records that are not as their hooks say: more0, more1, more2 and 7 more."
        )
        assert found.cure == "frappe-jobs --site all migrate"


class TestConfiguration:
    def test_keys_that_nobody_reads_are_told_with_the_nearest_that_is_read(self, make_bench):
        bench = make_bench(frappe_jobs_leese=30, frappe_jobs_database_url="sqlite:///x.db")
        bench.write(
            "site1/site_config.json", {"frappe_jobs_lease": 5, "frappe_jobs_databse_url": "x"}
        )
        bench.use()
        found = [o for o in said() if o.level == "warning" and "_config.json" in o.what]
        wrong, misplaced, unknown = found
        assert "common_site_config.json: 'frappe_jobs_leese' is no setting" in wrong.what
        assert wrong.cure.startswith("Write 'frappe_jobs_lease'")
        assert (
            "site1/site_config.json: 'frappe_jobs_lease' is a setting of the bench"
            in misplaced.what
        )
        assert "Write 'frappe_jobs_database_url'" in unknown.cure
        assert len([o for o in said("site2") if "_config.json" in o.what]) == 1

    def test_a_sites_file_that_is_no_json_is_an_error(self, bench):
        bench.write("site1/site_config.json", "{half")
        error = one(said(), "not JSON")
        assert (error.level, error.what.startswith("site1: its jobs cannot run")) == ("error", True)
