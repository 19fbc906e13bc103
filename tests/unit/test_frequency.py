"""Frappe's frequencies: their expressions, queues and offsets, and the schedules made of them."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frappe_jobs.cron import next_run
from frappe_jobs.errors import BadCron, ScheduleError, UnknownFrequency
from frappe_jobs.scheduler.frequency import FREQUENCIES, Schedule, frequency_named, offset_of

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
SITE, METHOD = "site1.local", "shop.tasks.report"

#: event, Frappe's expression, Frappe's queue
TABLE = [
    ("all", "*/4 * * * *", "default"),
    ("hourly", "0 * * * *", "default"),
    ("daily", "0 0 * * *", "default"),
    ("weekly", "0 0 * * 0", "default"),
    ("monthly", "0 0 1 * *", "default"),
    ("yearly", "0 0 1 1 *", "default"),
    ("annual", "0 0 1 1 *", "default"),
    ("hourly_long", "0 * * * *", "long"),
    ("daily_long", "0 0 * * *", "long"),
    ("weekly_long", "0 0 * * 0", "long"),
    ("monthly_long", "0 0 1 * *", "long"),
    ("yearly_long", "0 0 1 1 *", "long"),
    ("annual_long", "0 0 1 1 *", "long"),
    ("hourly_maintenance", "0 * * * *", "long"),
    ("daily_maintenance", "0 0 * * *", "long"),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("event", "expression", "queue"), TABLE)
def test_each_frequency_has_frappes_name_expression_and_queue(
    event: str, expression: str, queue: str
) -> None:
    frequency = frequency_named(event)
    assert frequency.name == event.replace("_", " ").title()
    assert frequency_named(frequency.name) is frequency
    assert frequency.queue == queue
    assert Schedule.of(frequency.name, METHOD, SITE).expression == expression


def test_there_is_no_other_frequency_but_cron() -> None:
    assert FREQUENCIES.keys() == {event for event, _, _ in TABLE} | {"cron"}


@pytest.mark.parametrize("name", ["fortnightly", "", "all_long", "daily-long", None, 5, []])
def test_an_unknown_frequency_is_named_with_those_that_exist(name: str) -> None:
    with pytest.raises(UnknownFrequency) as raised:
        frequency_named(name)
    assert repr(name) in str(raised.value) and "daily_long" in str(raised.value)
    assert isinstance(raised.value, ScheduleError)


# --- offsets


def test_an_offset_is_the_same_on_every_machine_and_in_every_process() -> None:
    """Literal, for they are written down on machines that are long in use."""
    offsets = (
        offset_of("Daily Long", SITE, METHOD),
        offset_of("Daily Long", "site2.local", METHOD),
        offset_of("Daily Long", SITE, "shop.tasks.other"),
        offset_of("Hourly Maintenance", SITE, METHOD),
        offset_of("Hourly Maintenance", "größe.local", METHOD),
    )
    assert offsets == (235, 508, 148, 3480, 1620)
    code = (
        "from frappe_jobs.scheduler.frequency import offset_of\n"
        f"print(offset_of('Daily Long', {SITE!r}, {METHOD!r}))"
    )
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True
        )
        assert int(told.stdout) == offsets[0]


def test_a_host_may_have_its_long_jobs_on_the_minute() -> None:
    long, maintenance = (
        Schedule.of(frequency, METHOD, SITE, spreads_long=False)
        for frequency in ("Daily Long", "Daily Maintenance")
    )
    assert long.offset == 0 and maintenance.offset == offset_of("Daily Maintenance", SITE, METHOD)


def test_long_offsets_spread_over_ten_minutes_and_are_never_none() -> None:
    offsets = {offset_of("Hourly Long", SITE, f"shop.tasks.job{number}") for number in range(6000)}
    assert min(offsets) == 1 and max(offsets) == 600


def test_a_sites_maintenance_comes_at_one_whole_minute_for_all_methods_and_frequencies() -> None:
    offsets = {offset_of("Hourly Maintenance", f"site{number}", METHOD) for number in range(1000)}
    assert offsets == {60 * minute for minute in range(60)}
    assert offset_of("Daily Maintenance", SITE, "a.b") == offset_of(
        "Hourly Maintenance", SITE, "c.d"
    )


@pytest.mark.parametrize("frequency", ["All", "Hourly", "Daily", "Yearly", "Annual", "Cron"])
def test_the_other_frequencies_have_no_offset(frequency: str) -> None:
    assert offset_of(frequency, SITE, METHOD) == 0


def test_an_offset_is_added_to_what_the_expression_says() -> None:
    schedule = Schedule("0 0 * * *", 600)
    assert schedule.next_run(utc("2025-06-30 22:00"), BERLIN) == utc("2025-06-30 22:10")
    assert schedule.next_run(utc("2025-06-30 22:09:59.9"), BERLIN) == utc("2025-06-30 22:10")
    assert schedule.next_run(utc("2025-06-30 22:10"), BERLIN) == utc("2025-07-01 22:10")
    assert schedule.next_run(utc("2025-06-30 22:10"), BERLIN).tzinfo is BERLIN


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(["0 * * * *", "0 0 * * *", "0 2 * * *", "30 2 * * 0", "*/4 * * * *"]),
    st.integers(1, 3540),
    st.datetimes(datetime(2025, 3, 28), datetime(2025, 4, 1)).map(lambda at: at.replace(tzinfo=UTC))
    | st.datetimes(datetime(2025, 10, 24), datetime(2025, 10, 28)).map(
        lambda at: at.replace(tzinfo=UTC)
    ),
)
def test_with_an_offset_no_run_is_lost_doubled_or_moved_also_when_clocks_change(
    expression: str, seconds: int, after: datetime
) -> None:
    offset, plain, shifted = timedelta(seconds=seconds), after - timedelta(seconds=seconds), after
    schedule = Schedule(expression, seconds)
    for _ in range(5):
        plain = next_run(expression, plain, BERLIN).astimezone(UTC)
        due = schedule.next_run(shifted, BERLIN).astimezone(UTC)
        assert due > shifted
        shifted = due
        assert shifted == plain + offset


# --- the interval of `all`


@pytest.mark.parametrize(
    ("interval", "expression"),
    [(60, "*/1 * * * *"), (240, "*/4 * * * *"), (420, "*/7 * * * *"), (3600, "*/60 * * * *")],
)
def test_an_interval_of_whole_minutes_is_frappes_expression(interval: int, expression: str) -> None:
    assert Schedule.of("All", METHOD, SITE, interval=interval) == Schedule(expression)


def test_seven_minutes_begin_anew_with_each_hour() -> None:
    schedule = Schedule.of("All", METHOD, SITE, interval=420)
    assert schedule.next_run(utc("2025-07-01 10:56"), BERLIN) == utc("2025-07-01 11:00")


@pytest.mark.parametrize("interval", [1, 7, 45, 90, 1000, 5000])
def test_another_interval_counts_from_midnight(interval: int) -> None:
    schedule = Schedule.of("All", METHOD, SITE, interval=interval)
    midnight = utc("2025-06-30 22:00")
    for count in (0, 1, 2, 86400 // interval // 2):
        due = midnight + timedelta(seconds=count * interval)
        assert schedule.next_run(due - timedelta(milliseconds=1), BERLIN) == due
        assert schedule.next_run(due, BERLIN) > due


def test_each_midnight_the_count_begins_anew() -> None:
    schedule = Schedule(every=25_000)
    found, at = [], utc("2025-06-30 21:59:59")
    for _ in range(6):
        at = schedule.next_run(at, BERLIN)
        found.append(at.strftime("%d %H:%M:%S"))
    assert found == [
        "01 00:00:00",
        "01 06:56:40",
        "01 13:53:20",
        "01 20:50:00",
        "02 00:00:00",
        "02 06:56:40",
    ]


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25)])
def test_the_count_is_of_real_seconds_in_the_nights_when_clocks_change(
    day: str, hours: int
) -> None:
    begin = datetime.fromisoformat(day).replace(tzinfo=BERLIN).astimezone(UTC)
    at, found = begin - timedelta(seconds=1), []
    for _ in range(hours * 40):
        at = Schedule(every=90).next_run(at, BERLIN).astimezone(UTC)
        found.append(at)
    assert found == [begin + count * timedelta(seconds=90) for count in range(hours * 40)]


# --- of a record


def test_as_in_frappe_a_records_expression_wins_over_its_frequency() -> None:
    schedule = Schedule.of("Daily Long", METHOD, SITE, cron_format="5 4 * * *")
    assert schedule == Schedule("5 4 * * *", offset_of("Daily Long", SITE, METHOD))
    assert Schedule.of("All", METHOD, SITE, cron_format="5 4 * * *") == Schedule("5 4 * * *")
    assert Schedule.of("Cron", METHOD, SITE, cron_format="0/5 * * * *") == Schedule("0/5 * * * *")


@pytest.mark.parametrize("cron_format", ["", "0 0 31 2 *", "never"])
def test_a_records_bad_expression_is_refused(cron_format: str) -> None:
    with pytest.raises(BadCron):
        Schedule.of("Cron", METHOD, SITE, cron_format=cron_format)
