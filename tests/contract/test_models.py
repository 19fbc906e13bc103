"""The scheduler's records are documents, checked before they are written, on every database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

import frappe_jobs as frappe
from frappe_jobs.errors import (
    ArgumentError,
    BadCron,
    DoesNotExistError,
    ScheduleError,
    UnknownFrequency,
)
from frappe_jobs.standalone.models import (
    Base,
    ScheduledJobLog,
    ScheduledJobType,
)
from frappe_jobs.standalone.records import make_tables

METHOD = "acme.tasks.greet"
NOON = datetime(2025, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def site1(host: Any) -> None:
    """The sites, with their tables."""


def new(**values: Any) -> Any:
    return frappe.new_doc("Scheduled Job Type", **{"method": METHOD, "frequency": "Daily"} | values)


def stored(doctype: str = "Scheduled Job Type") -> list[str]:
    with frappe.site("site1"):
        return [row["name"] for row in frappe.get_all(doctype, fields=["name"])]


# --- Scheduled Job Type


def test_a_type_is_made_read_changed_and_deleted() -> None:
    with frappe.site("site1"):
        made = new().insert()
        assert made.doctype == "Scheduled Job Type"
    with frappe.site("site1"):
        [row] = frappe.get_all("Scheduled Job Type", filters={"method": METHOD}, fields=["*"])
        assert row["creation"].tzinfo is timezone.utc
        del row["creation"]
        assert row == {
            "name": made.name,
            "method": METHOD,
            "frequency": "Daily",
            "cron_format": "",
            "queue": "default",
            "stopped": False,
            "create_log": True,
            "last_execution": None,
            "next_execution": None,
            "last_due": None,
            "scheduler_event": "",
        }
        found = frappe.get_doc("Scheduled Job Type", made.name)
        found.stopped, found.frequency = True, "weekly_long"
        found.save()
    with frappe.site("site1"):
        found = frappe.get_doc("Scheduled Job Type", made.name)
        assert (found.stopped, found.frequency) == (True, "Weekly Long")
        found.delete()
    assert stored() == []


def test_a_sites_types_are_its_own() -> None:
    with frappe.site("site1"):
        new().insert()
    with frappe.site("site2"):
        assert frappe.get_all("Scheduled Job Type") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"frequency": "daily_long"}, {"frequency": "Daily Long", "queue": "long"}),
        ({"frequency": "Daily Long", "queue": "short"}, {"queue": "short"}),
        ({"frequency": "All"}, {"create_log": False}),
        ({"frequency": "All", "create_log": True}, {"create_log": True}),
        ({"frequency": "Hourly", "create_log": False}, {"create_log": True}),
        ({"frequency": "Cron", "cron_format": "0/5 * * * *"}, {"queue": "default"}),
        ({"frequency": "Cron", "cron_format": "annual"}, {"cron_format": "annual"}),
    ],
)
def test_what_is_left_out_is_filled_in_as_frappe_does(
    values: dict[str, Any], expected: dict[str, Any]
) -> None:
    with frappe.site("site1"):
        made = new(**values).insert()
        assert {key: getattr(made, key) for key in expected} == expected


def test_times_keep_their_moment_to_the_microsecond() -> None:
    with frappe.site("site1"):
        name = new(last_execution=NOON, next_execution=NOON + timedelta(days=1)).insert().name
    with frappe.site("site1"):
        found = frappe.get_doc("Scheduled Job Type", name)
        assert found.last_execution == NOON and found.last_execution.tzinfo is timezone.utc
        assert found.next_execution == NOON + timedelta(days=1)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"frequency": "Fortnightly"}, UnknownFrequency, "'Fortnightly'; legal: all, hourly"),
    ({"frequency": None}, UnknownFrequency, "None; legal"),
    ({"frequency": "Cron"}, BadCron, "'' is no cron expression"),
    ({"frequency": "Cron", "cron_format": "60 * * * *"}, BadCron, "minute 0-59"),
    ({"frequency": "Cron", "cron_format": "0 0 31 2 *"}, BadCron, "names no date"),
    ({"frequency": "Daily", "cron_format": "never"}, BadCron, "'never'"),
    ({"method": ""}, ScheduleError, "neither a method nor a scheduler event"),
    ({"method": None}, ScheduleError, "neither a method nor a scheduler event"),
    ({"method": 5}, ScheduleError, "'method' is 5; legal: a text"),
    ({"method": "x" * 300}, ScheduleError, "legal: a text of 0 to 255"),
    ({"method": "a\0b"}, ScheduleError, "'method' is"),
    ({"queue": 5}, ScheduleError, "'queue' is 5"),
    ({"name": ""}, ScheduleError, "'name' is ''; legal: a text of 1 to 140"),
    ({"name": "x" * 141}, ScheduleError, "legal: a text of 1 to 140"),
    ({"last_execution": datetime(2025, 1, 1)}, ScheduleError, "'last_execution' is .*time zone"),
    ({"next_execution": "today"}, ScheduleError, "'next_execution' is 'today'"),
    ({"scheduler_event": "gone"}, ScheduleError, "no Scheduler Event 'gone'"),
]


@pytest.mark.parametrize(("values", "error", "text"), BAD)
def test_a_bad_value_is_named_with_what_is_legal_and_the_rest_of_the_transaction_stands(
    values: dict[str, Any], error: type[Exception], text: str
) -> None:
    with frappe.site("site1"):
        new(frequency="Monthly", name="good").insert()
        with pytest.raises(error, match=text) as raised:
            new(**values).insert()
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
    assert stored() == ["good"]


def test_a_bad_change_is_refused_also_where_nobody_saves_it() -> None:
    with frappe.site("site1"):
        name = new().insert().name
    with pytest.raises(UnknownFrequency), frappe.site("site1"):
        frappe.get_doc("Scheduled Job Type", name).frequency = "Never"
    with pytest.raises(ScheduleError), frappe.site("site1") as session:
        session.db.add(new(method="", frequency="Weekly"))
    with frappe.site("site1"):
        assert frappe.get_doc("Scheduled Job Type", name).frequency == "Daily"
    assert stored() == [name]


def test_the_same_method_frequency_and_expression_are_one_type() -> None:
    with frappe.site("site1"):
        first = new(frequency="Cron", cron_format="@daily").insert()
        with pytest.raises(
            ScheduleError, match=f"{first.name!r} is the same: {METHOD}, Cron @daily"
        ):
            new(frequency="Cron", cron_format="@daily").insert()
        new(frequency="Cron", cron_format="@weekly").insert()
        new(frequency="Weekly").insert()
        new(frequency="Cron", cron_format="@daily", method=METHOD.upper()).insert()
        first.save()
    assert len(stored()) == 4


def test_of_threads_that_race_for_one_type_one_wins(host: Any) -> None:
    """Their checks see nothing of each other: the database has the last word."""

    def make(number: int) -> bool:
        try:
            with frappe.site("site1"):
                new(name=f"racer{number}").insert()
        except (ScheduleError, IntegrityError):
            return False
        except OperationalError as error:
            assert host.is_conflict(error)
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(make, range(4))) == [False, False, False, True]
    assert len(stored()) == 1


def test_the_database_refuses_a_second_of_the_same_type() -> None:
    with pytest.raises(IntegrityError), frappe.site("site1") as session:
        session.db.add_all([new(), new()])


def test_deleting_a_type_deletes_its_logs_and_no_others() -> None:
    with frappe.site("site1"):
        made, other = new().insert(), new(frequency="Weekly").insert()
        for kind in (made, made, other):
            frappe.new_doc("Scheduled Job Log", scheduled_job_type=kind.name).insert()
    with frappe.site("site1"):
        frappe.get_doc("Scheduled Job Type", made.name).delete()
    with frappe.site("site1"):
        [log] = frappe.get_all("Scheduled Job Log", fields=["scheduled_job_type"])
        assert log == {"scheduled_job_type": other.name}


def test_frappes_other_forms_make_find_and_change_one() -> None:
    """As apps for Frappe write it."""
    with frappe.site("site1"):
        event = frappe.get_doc(
            {"doctype": "Scheduler Event", "scheduled_against": "Account", "method": METHOD}
        ).insert()
        frappe.get_doc(
            {"doctype": "Scheduled Job Type", "scheduler_event": event.name, "frequency": "Daily"}
        ).save()
    with frappe.site("site1"):
        found = frappe.get_doc("Scheduled Job Type", {"scheduler_event": event.name})
        found.update({"frequency": "Cron", "cron_format": "0/25 * * * *"}).save()
    with frappe.site("site1"):
        found = frappe.get_doc("Scheduled Job Type", {"frequency": "Cron"})
        assert (found.cron_format, found.scheduler_event) == ("0/25 * * * *", event.name)
        with pytest.raises(DoesNotExistError):
            frappe.get_doc("Scheduled Job Type", {"frequency": "Daily"})
        with pytest.raises(ArgumentError, match="has no field 'colour'"):
            frappe.get_doc("Scheduled Job Type", {"colour": "red"})
        with pytest.raises(ArgumentError, match="needs its 'doctype'"):
            frappe.get_doc({"frequency": "Daily"})


def test_deleting_a_type_that_is_not_stored_says_so() -> None:
    with frappe.site("site1"), pytest.raises(DoesNotExistError, match="is not stored"):
        new().delete()


# --- Scheduler Event


def test_a_type_of_an_event_needs_no_method_and_two_events_have_types_of_their_own() -> None:
    with frappe.site("site1"):
        for doctype in ("Sales Order", "Account"):
            event = frappe.new_doc("Scheduler Event", scheduled_against=doctype).insert()
            new(method="", scheduler_event=event.name).insert()
    with frappe.site("site1"):
        rows = frappe.get_all("Scheduler Event", fields=["scheduled_against", "method"])
        assert {row["scheduled_against"] for row in rows} == {"Sales Order", "Account"}
        assert {row["method"] for row in rows} == {""}
    assert len(stored()) == 2


def test_an_event_with_types_cannot_be_deleted_before_them() -> None:
    with frappe.site("site1"):
        event = frappe.new_doc("Scheduler Event", scheduled_against="Account").insert()
        made = new(scheduler_event=event.name).insert()
        with pytest.raises(ScheduleError, match=f"delete the Scheduled Job Type {made.name} first"):
            event.delete()
        made.delete()
        event.delete()
    assert stored("Scheduler Event") == []


@pytest.mark.parametrize(
    "values", [{}, {"scheduled_against": " "}, {"scheduled_against": "Account", "method": 5}]
)
def test_a_bad_event_is_refused(values: dict[str, Any]) -> None:
    with frappe.site("site1"), pytest.raises(ScheduleError, match="legal: a text of"):
        frappe.new_doc("Scheduler Event", **values).insert()
    assert stored("Scheduler Event") == []


# --- Scheduled Job Log


def test_a_log_keeps_status_duration_and_a_traceback_of_any_length() -> None:
    details = "Traceback …\n" * 20_000
    with frappe.site("site1"):
        log = frappe.new_doc("Scheduled Job Log", scheduled_job_type="t").insert()
        assert log.status == "Scheduled"
        log.status, log.duration, log.details = "Failed", 1.25, details
        log.save()
    with frappe.site("site1"):
        found = frappe.get_doc("Scheduled Job Log", log.name)
        assert (found.status, found.duration, found.details) == ("Failed", 1.25, details)


def test_a_log_with_an_unknown_status_is_refused() -> None:
    with frappe.site("site1"), pytest.raises(ScheduleError, match="Scheduled, Complete, Failed"):
        frappe.new_doc("Scheduled Job Log", scheduled_job_type="t", status="Done").insert()


# --- the tables and the classes


def test_making_the_tables_again_changes_nothing() -> None:
    with frappe.site("site1"):
        new().insert()
    with frappe.site("site1") as session:
        make_tables(session.db)
    assert len(stored()) == 1


def test_a_site_without_the_tables_gets_them() -> None:
    with frappe.site("site2") as session:
        Base.metadata.drop_all(session.db.connection())
    with frappe.site("site2") as session:
        make_tables(session.db)
    with frappe.site("site2"):
        assert frappe.get_all("Scheduled Job Log") == []


def test_a_record_travels_with_a_job(host: Any) -> None:
    with frappe.site("site1"):
        log = frappe.new_doc("Scheduled Job Log", scheduled_job_type="t").insert()
        back = host.arguments.decode(host.arguments.encode({"log": log}))["log"]
        assert isinstance(back, ScheduledJobLog) and back.name == log.name


def test_the_class_is_known_without_an_app_that_names_it() -> None:
    with frappe.site("site1"):
        assert type(new()) is ScheduledJobType
