"""What others may write into the schedule's Redis and a site's records: nobody else notices."""

from __future__ import annotations

import json
import logging
import time

import pytest
from doctored import one
from integration.test_doctor_schedule import said
from integration.test_schedule import OFTEN, entries, migrated, runs, with_hooks
from sqlalchemy import create_engine, text

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.doctor.mending import mended
from frappe_jobs.scheduler.entry import VERSION
from frappe_jobs.scheduler.strangers import strangers
from frappe_jobs.testing import wait_until

DAILY = "acme.tasks.ping"


@pytest.fixture(scope="module")
def whole(make_bench):
    bench = make_bench(frappe_jobs_scheduler_lock=3)
    with_hooks(bench, {"cron": {OFTEN: ["acme.tasks.often"]}, "daily": [DAILY]})
    bench.use()
    migrated(bench)
    sql(bench, "PRAGMA wal_checkpoint(TRUNCATE)")
    return bench, (bench.sites / "site1" / "site.db").read_bytes()


@pytest.fixture
def bench(whole):
    """One for all tests, its records and its schedule as a migrate leaves them."""
    bench, database = whole
    for file in (bench.sites / "site1").glob("site.db*"):
        file.unlink()
    (bench.sites / "site1" / "site.db").write_bytes(database)
    bench.write("site1/site_config.json", {"db_type": "sqlite"})
    bench.use()
    timetable().redis.delete(*timetable().redis.keys(f"{timetable().key_prefix}*"))
    assert runtime.current().sync.compare() == {}
    return bench


def timetable():
    return runtime.current().timetable


def entry_of(method, site="site1"):
    (found,) = [one[0] for one in timetable().of_site(site).values() if one[0].method == method]
    return found


def key_of(method):
    return timetable()._key(entry_of(method).id)


def changed(key, **parts):
    """The definition under that key, its schedule changed."""
    definition = json.loads(timetable().redis.hget(key, "definition"))
    definition["schedule"] |= parts
    return json.dumps(definition)


def plain_redbeat(_key):
    schedule = {"__type__": "interval", "every": 60, "relative": False}
    return json.dumps({"name": "x", "task": "team.mail", "schedule": schedule, "kwargs": {}})


DEFINITIONS = {
    "half": lambda key: "{",
    "null": lambda key: "null",
    "empty": lambda key: "",
    "a number": lambda key: "5",
    "very deep": lambda key: "[" * 100_000,
    "very long": lambda key: changed(key, expression="*" * 10**6),
    "no UTF-8": lambda key: b"\xff\xfe",
    "RedBeat's own": plain_redbeat,
    "a bad zone": lambda key: changed(key, zone="Mars/Base"),
    "a zone that is a path": lambda key: changed(key, zone="../../etc/passwd"),
    "a zone that is no text": lambda key: changed(key, zone=["UTC"]),
    "a bad expression": lambda key: changed(key, expression="x"),
    "one that never comes": lambda key: changed(key, expression="0 0 31 2 *"),
    "an offset past the calendar": lambda key: changed(key, offset=10**18),
    "an offset that is no number": lambda key: changed(key, offset="5"),
    "an extra field": lambda key: changed(key, jitter=5),
    "a later version": lambda key: changed(key, version=VERSION + 1),
    "another one's": lambda key: timetable()
    .redis.hget(key, "definition")
    .replace("site1", "site2"),
}


def test_what_cannot_be_read_is_taken_out_and_made_anew_from_its_record(bench):
    here, wanted = timetable(), entries()[DAILY]
    key = key_of(DAILY)
    for kind, make in DEFINITIONS.items():
        here.redis.hset(key, "definition", make(key))
        here.redis.zadd(here.schedule_key, {key: 1})
        look = here.look("here", 1)
        assert [one.key for one in look.taken_out] == [key], kind
        assert {due.entry.method for due in look.due} <= {"acme.tasks.often"}
        assert here.redis.zscore(here.schedule_key, key) is None
        if kind == "half":
            assert one(said("site1"), "not readable").level == "warning"
        assert runtime.current().sync.compare(["site1"]) == {}
        assert entries()[DAILY] == here.redis.zscore(here.schedule_key, key) == wanted, kind
    assert not [o for o in said("site1") if "not readable" in o.what]


def test_a_scheduler_goes_on_beside_all_of_it_and_heals_it(bench):
    here, redis = timetable(), timetable().redis
    key, wanted = key_of(DAILY), entries()[DAILY]
    with bench.worker("--queue", "default"), bench.process("schedule") as scheduler:
        wait_until(lambda: "this scheduler leads" in scheduler.log, 20)
        for kind, make in DEFINITIONS.items():
            if kind not in ("half", "RedBeat's own", "an extra field", "no UTF-8"):
                continue
            text = make(key)
            with redis.pipeline() as pipe:
                pipe.hset(key, "definition", text).zadd(here.schedule_key, {key: 1}).execute()
            wait_until(lambda: entries().get(DAILY) == wanted, 20)
        for wrong in (here.schedule_key, here.lock_key, here.seen_key, here.sites_key,
                      here.site_key("site1"), here._ticket_key("site1"), key):  # fmt: skip
            with redis.pipeline() as pipe:
                pipe.delete(wrong).rpush(wrong, "x")
                if wrong != here.schedule_key:  # so that it is looked at
                    pipe.zadd(here.schedule_key, {key: 1, "nobody's": 1})
                pipe.execute()
            wait_until(lambda wrong=wrong: redis.type(wrong) != "list", 20)
            wait_until(lambda: entries().keys() == {DAILY, "acme.tasks.often"}, 20)
        redis.set(here._ticket_key("site1"), 2**63 - 1)
        with redis.pipeline() as pipe:  # at once, as a comparison mends it
            pipe.zadd(here.schedule_key, {b"\xff": 1, "x" * 10**6: 1, f"{here.key_prefix}a:b": 1})
            pipe.zadd(here.schedule_key, {here.lock_key: 1, here._key("site1:" + "n" * 10**6): 2})
            pipe.zadd(here.schedule_key, {f"{here.key_prefix}inf": "inf", key: "-inf"}).execute()
        wait_until(lambda: redis.zcount(here.schedule_key, "-inf", 3) == 0, 20)
        redis.hset(key, "due", "nan")
        redis.zadd(here.schedule_key, {key: 1})
        wait_until(lambda: entries().get(DAILY) == wanted, 20)
        count = len(runs(bench))
        wait_until(lambda: len(runs(bench)) > count + 2, 20)
        assert scheduler.process.poll() is None
        assert "Traceback" not in scheduler.log, scheduler.log
        assert max(map(len, scheduler.lines)) < 2000
        assert scheduler.stop() == 0


def test_the_doctor_names_what_no_scheduler_wrote(bench):
    here, redis = timetable(), timetable().redis
    redis.rpush(here.lock_key, "x")
    redis.zadd(here.schedule_key, {"nobody's": time.time() + 9999})
    assert {*strangers(here)} == {here.lock_key, "nobody's"}
    named = [finding for finding in said() if "no scheduler wrote" in finding.what]
    assert [finding.level for finding in named] == ["warning"] * 2
    assert "it is a list" in one(named, here.lock_key).what
    assert len([o for o in mended(said()) if o.what.startswith("Mended")]) == 2
    assert strangers(here) == {}


#: What somebody may write into a site's records by SQL, and what is said of it.
RECORDS = {
    "cron_format = 'x', frequency = 'Cron'": "'x' is no cron expression",
    "cron_format = 5, frequency = 'Cron'": "is no cron expression",
    "frequency = 'Sometimes'": "no frequency 'Sometimes'",
    "method = 5": "no dotted path",
    "method = x'ff00'": "is no text",
    "method = 'no.such.method'": "no.such.method",
    "last_execution = 'yesterday'": "ValueError",
    "last_execution = '0000-00-00 00:00:00'": "ValueError",
    "creation = 5": "Error",
    "queue = x'ff'": "is no text",
}


def test_a_record_that_makes_no_sense_keeps_no_other_from_its_time(bench, caplog):
    caplog.set_level(logging.ERROR)
    table, often = "frappe_jobs_scheduled_job_type", key_of("acme.tasks.often")
    sql(bench, f"CREATE TABLE before AS SELECT * FROM {table}")
    for values, said_of_it in RECORDS.items():
        sql(bench, f"UPDATE {table} SET {values} WHERE method = '{DAILY}'")
        timetable().redis.delete(timetable().schedule_key, often)
        caplog.clear()
        assert runtime.current().sync.compare() == {}
        assert set(entries()) == {"acme.tasks.often"}, values
        assert set(entries("site2")) == {"acme.tasks.often", DAILY}
        assert "is not scheduled" in caplog.text
        error = one(said("site1"), "is not queued: ")
        assert error.level == "error" and said_of_it in error.what, error.what
        sql(bench, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM before")


def test_columns_that_are_null_are_as_they_were_never_filled(bench):
    # As SQLite lets them be; its own columns are not null.
    sql(bench, "PRAGMA writable_schema = 1", "UPDATE sqlite_master SET sql = replace(sql, "
        "'NOT NULL', '') WHERE name = 'frappe_jobs_scheduled_job_type'")  # fmt: skip
    columns = "creation = NULL, queue = NULL, stopped = NULL, create_log = NULL, cron_format = NULL"
    sql(bench, f"UPDATE frappe_jobs_scheduled_job_type SET {columns} WHERE method = '{DAILY}'")
    timetable().redis.delete(key_of(DAILY))
    assert runtime.current().sync.compare() == {}
    assert entry_of(DAILY).queue == "default"
    sql(bench, f"UPDATE frappe_jobs_scheduled_job_type SET method = NULL WHERE method = '{DAILY}'")
    assert runtime.current().sync.compare() == {}
    assert set(entries()) == {"acme.tasks.often"}


def sql(bench, *statements):
    (file,) = (bench.sites / "site1").glob("*.db")
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_a_zone_that_is_none_keeps_nothing_from_its_time(bench):
    for zone in ("Mars/Base", 5, ["UTC"], "Europe", "a\0b", "x" * 10_000):
        bench.write("site1/site_config.json", {"db_type": "sqlite", "time_zone": zone})
        assert runtime.current().sync.compare() == {}
        assert {entry_of(DAILY).zone, entry_of(DAILY, "site2").zone} == {"UTC"}
        assert one(said("site1"), "there is no time zone").level == "error"


def test_a_site_that_cannot_be_compared_keeps_no_other_from_it(bench, caplog):
    (file,) = (bench.sites / "site1").glob("*.db")
    for one_of_them in file.parent.glob(file.name + "*"):
        one_of_them.write_bytes(b"no database" * 1000)
    timetable().redis.delete(timetable().schedule_key, key_of("acme.tasks.often"))
    assert [*runtime.current().sync.compare()] == ["site1"]
    assert "the schedule of site1 stays as it is: " in caplog.text
    assert set(entries("site2")) == {"acme.tasks.often", DAILY}


def test_an_interval_of_any_length_comes_at_midnight(bench):
    with_hooks(bench, {"all": [DAILY]})
    bench.write("common_site_config.json", bench.config | {"scheduler_interval": 10**30 + 1})
    migrated(bench)
    bench.use()
    assert entries()[DAILY] % 86400 == 0
    with frappe.site("site1"):
        assert len(frappe.get_all("Scheduled Job Type")) == 1
