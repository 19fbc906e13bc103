"""The next time of an expression: croniter's by the wall clock, ours when clocks change."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from time import thread_time
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from frappe_jobs.cron import NAMED, check, next_run
from frappe_jobs.errors import BadCron, ScheduleError

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
APIA = ZoneInfo("Pacific/Apia")
MINUTE = timedelta(minutes=1)

HOOKS = [
    expression
    for file in sorted((Path(__file__).parents[1] / "data").glob("hooks_*.json"))
    for expression in json.loads(file.read_text())["scheduler_events"].get("cron", {})
]
EXPRESSIONS = [
    *HOOKS,
    *(expression for name, expression in NAMED.items() if name != "annual"),
    "*/4 * * * *", "0/5 * * * *", "3/7 * * * *", "2-23/5 * * * *", "0 2-23/5 * * *",
    "5,10,59 */6 * * *", "30 9-17 * * mon-fri", "0 0 13 * 5", "0 12 1,15 * mon", "0 0 L * *",
    "0 18 L jan,jul *", "0 9 * * 5#2", "0 9 * * mon#1", "0 9 * * L5", "0 0 29 2 *", "0 0 31 * *",
    "0 0 * * 7", "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly",
    "@annually", "15 10 * * * 30", "* * * * * */20", "0 0 1 1 * 59", "59 23 31 12 *",
]  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(expression: str, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """In UTC: Python calls no time of another zone equal to one that comes twice."""
    while True:
        after = next_run(expression, after, zone).astimezone(UTC)
        yield after


def times(expression: str, day: str, zone: ZoneInfo, days: float = 1) -> list[str]:
    """What clocks show, with the offset, at each run from that day's beginning on."""
    begin = datetime.fromisoformat(day).replace(tzinfo=zone)
    first = begin.astimezone(UTC)
    found = []
    for run in runs(expression, first - timedelta(microseconds=1), zone):
        if run >= first + timedelta(days=days):
            return found
        found.append(run.astimezone(zone).strftime("%d %H:%M%z"))
    raise AssertionError("it never ends")


# --- what an expression means


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_in_utc_the_next_times_of_five_years_are_croniters_own(expression: str) -> None:
    """Every one of them, or the first 1,000; and those after 100 places of the five years."""
    begin, end, zone = datetime(2024, 1, 1), datetime(2029, 1, 1), ZoneInfo("UTC")
    own = croniter(expression, begin)
    all_own = takewhile(lambda time: time < end, iter(lambda: own.get_next(datetime), None))
    expected = list(islice(all_own, 1000))
    found = islice(runs(expression, begin.replace(tzinfo=UTC), zone), len(expected))
    assert [time.replace(tzinfo=None) for time in found] == expected
    for place in range(100):
        start = begin + place * (end - begin) / 100
        own = croniter(expression, start)
        expected = [own.get_next(datetime) for _ in range(3)]
        found = islice(runs(expression, start.replace(tzinfo=UTC), zone), 3)
        assert [time.replace(tzinfo=None) for time in found] == expected


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_away_from_changes_of_the_clock_the_times_are_croniters_in_every_zone(
    expression: str, zone: str
) -> None:
    start = datetime(2025, 7, 1, 12, 30, 15)
    found = next_run(expression, start.replace(tzinfo=ZoneInfo(zone)), ZoneInfo(zone))
    expected = croniter(expression, start).get_next(datetime)
    assert found.replace(tzinfo=None) == expected


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("0 0 13 * 5", "2025-02-07 00:00"),
        ("0/5 * * * *", "2025-02-05 10:35"),
        ("0 2-23/5 * * *", "2025-02-05 12:00"),
        ("0 0 L * *", "2025-02-28 00:00"),
        ("0 9 * * 5#2", "2025-02-14 09:00"),
        ("0 9 * * L5", "2025-02-28 09:00"),
        ("0 0 * * 7", "2025-02-09 00:00"),
        ("0 0 * * fri-sun", "2025-02-07 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("15 10 * * * 30", "2025-02-06 10:15:30"),
        ("*/15 * * * * */20", "2025-02-05 10:30:40"),
        ("@daily", "2025-02-06 00:00"),
        ("annual", "2026-01-01 00:00"),
    ],
)
def test_every_version_of_croniter_gives_the_same_time(expression: str, due: str) -> None:
    """Written down, for these tests run on the oldest and the newest one."""
    after = utc("2025-02-05 10:30:20")
    assert next_run(expression, after, ZoneInfo("UTC")) == utc(due)


def test_day_of_month_and_day_of_week_mean_either() -> None:
    assert times("0 0 13 * 5", "2025-06-01", BERLIN, days=15) == [
        "06 00:00+0200",
        "13 00:00+0200",
    ]
    assert times("0 0 13 * 1", "2025-06-09", BERLIN, days=6) == ["09 00:00+0200", "13 00:00+0200"]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_frequencys_name_stands_for_its_expression(name: str) -> None:
    after = utc("2025-03-01 10:00")
    assert next_run(name, after, BERLIN) == next_run(NAMED[name], after, BERLIN)


def test_the_next_time_is_aware_in_the_zone_and_strictly_later() -> None:
    due = next_run("0 2 * * *", utc("2025-07-01 00:00"), BERLIN)
    assert due == utc("2025-07-02 00:00") and due.tzinfo is BERLIN
    assert next_run("0 2 * * *", utc("2025-06-30 23:59:59.999999"), BERLIN) == utc("2025-07-01")


def test_the_time_may_be_in_any_zone_and_a_naive_one_is_the_zones_own() -> None:
    due = utc("2025-07-01 10:00")
    tokyo = utc("2025-07-01 09:59").astimezone(ZoneInfo("Asia/Tokyo"))
    assert next_run("0 12 * * *", tokyo, BERLIN) == due
    assert next_run("0 12 * * *", datetime(2025, 7, 1, 11, 59), BERLIN) == due


def test_an_expression_may_be_asked_by_many_threads_at_once(often_switched: None) -> None:
    def ask(starts: list[datetime]) -> list[datetime]:
        return [next_run("0 0 13 * 5", start, ZoneInfo("UTC")) for start in starts]

    starts = [utc("2025-01-01") + timedelta(hours=7 * step) for step in range(8000)]
    parts = [starts[first::4] for first in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, parts))
    assert found == [ask(part) for part in parts]


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns after every few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_where_the_calendar_ends_there_is_no_next_time() -> None:
    with pytest.raises(BadCron):
        next_run("0 0 29 2 *", datetime(9999, 1, 1, tzinfo=UTC), BERLIN)


# --- what is no expression


BAD = [
    "", " ", "daily!", "0 0 * *", "* * * * * * *", "0 0 * * * 0 2030", "60 * * * *", "* 24 * * *",
    "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1-3 * * * *", "a b c d e",
    "0 0 l-2 * *", "0 0 * * 1#6", "h * * * *", "r * * * *", "R(0-9) * * * *", "@reboot", "all",
    "0 0 * * *\n0 1 * * *", "\x00", "９ * * * *", "0\u00a00 * * *", f"{'9' * 5000} * * * *",
    "1," * 50_000 + "1 * * * *", None, 5, [], b"0 0 * * *",
]  # fmt: skip


@pytest.mark.parametrize("expression", BAD, ids=lambda value: repr(value)[:20])
def test_a_bad_expression_is_named_with_what_is_legal_in_one_line(expression: str) -> None:
    for refused in (check, lambda text: next_run(text, utc("2025-01-01"), BERLIN)):
        with pytest.raises(BadCron) as raised:
            refused(expression)
        text = str(raised.value)
        assert text.startswith(repr(expression)[:40])
        assert "minute 0-59, hour 0-23" in text and "\n" not in text and len(text) < 500
        assert raised.value.details["expression"] is expression
    assert issubclass(BadCron, ScheduleError)


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 * 30"])
def test_an_expression_with_no_date_is_bad(expression: str) -> None:
    for refused in (check, lambda text: next_run(text, utc("2025-01-01"), BERLIN)):
        with pytest.raises(BadCron, match="names no date") as raised:
            refused(expression)
        assert expression in str(raised.value)


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "0 0 29 2 1#5", *EXPRESSIONS])
def test_a_good_expression_passes(expression: str) -> None:
    check(expression)


FIELD = st.from_regex(r"[0-9*lLrRhHw#/,?a-c-]{1,6}", fullmatch=True)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.one_of(st.text(max_size=30), st.lists(FIELD, min_size=4, max_size=7).map(" ".join)))
def test_any_text_is_an_expression_or_a_bad_one_and_soon_so(text: str) -> None:
    begin = thread_time()
    try:
        check(text)
    except BadCron as error:
        assert "\n" not in str(error)
    assert thread_time() - begin < 1


# --- the nights when clocks change


def test_every_real_hour_counts_where_the_hour_is_a_star() -> None:
    assert times("30 * * * *", "2025-10-26 01:00", BERLIN, days=1 / 6) == [
        "26 01:30+0200",
        "26 02:30+0200",
        "26 02:30+0100",
        "26 03:30+0100",
    ]
    assert times("30 * * * *", "2025-03-30 01:00", BERLIN, days=1 / 8) == [
        "30 01:30+0100",
        "30 03:30+0200",
        "30 04:30+0200",
    ]


def test_a_step_of_hours_counts_the_hours_that_clocks_show() -> None:
    assert times("0 */2 * * *", "2025-10-26", BERLIN, days=5 / 24) == [
        "26 00:00+0200",
        "26 02:00+0200",
        "26 02:00+0100",
    ]
    assert times("0 */2 * * *", "2025-03-30", BERLIN, days=4 / 24) == [
        "30 00:00+0100",
        "30 04:00+0200",
    ]


@pytest.mark.parametrize("hours", ["2", "0-23", "1,2", "0/2", "2-3"])
def test_a_time_that_comes_twice_runs_at_its_first_coming(hours: str) -> None:
    found = times(f"30 {hours} * * *", "2025-10-26", BERLIN)
    assert "26 02:30+0200" in found and "26 02:30+0100" not in found


def test_a_time_that_does_not_exist_runs_once_at_the_end_of_the_gap() -> None:
    assert times("30 2 * * *", "2025-03-29", BERLIN, days=3) == [
        "29 02:30+0100",
        "30 03:00+0200",
        "31 02:30+0200",
    ]


def test_several_times_in_one_gap_and_one_at_its_end_run_once_together() -> None:
    assert times("*/10 2 * * *", "2025-03-30", BERLIN, days=0.5) == ["30 03:00+0200"]
    assert times("0,30 2,3 * * *", "2025-03-30", BERLIN, days=0.5) == [
        "30 03:00+0200",
        "30 03:30+0200",
    ]


def test_with_seconds_too_a_gap_is_one_run_and_a_second_coming_none() -> None:
    assert times("0 2 * * * */15", "2025-03-30", BERLIN, days=0.5) == ["30 03:00+0200"]
    assert times("59 2 * * * 30", "2025-10-26", BERLIN) == ["26 02:59+0200"]
    second_coming = datetime(2025, 10, 26, 2, 0, 10, tzinfo=BERLIN, fold=1)
    assert next_run("* 2 * * * *", second_coming, BERLIN) == utc("2025-10-27 01:00")
    due = next_run("* * * * * *", second_coming, BERLIN)
    assert due.fold and due.astimezone(UTC) == utc("2025-10-26 01:00:11")


def test_what_would_fall_on_a_midnight_that_does_not_exist_runs_at_the_days_beginning() -> None:
    assert times("0 0 * * *", "2018-11-03", SAO_PAULO, days=1.5) == [
        "03 00:00-0300",
        "04 01:00-0200",
    ]
    assert times("@hourly", "2018-11-03 22:00", SAO_PAULO, days=0.125) == [
        "03 22:00-0300",
        "03 23:00-0300",
        "04 01:00-0200",
    ]


def test_a_midnight_that_comes_twice_is_one_day() -> None:
    havana = ZoneInfo("America/Havana")
    assert times("0 0 * * *", "2025-11-02", havana, days=1) == ["02 00:00-0400"]
    assert times("0 * * * *", "2025-11-02", havana, days=0.125) == [
        "02 00:00-0400",
        "02 00:00-0500",
        "02 01:00-0500",
    ]


def test_a_day_that_does_not_exist_runs_once_at_its_end() -> None:
    assert times("0 12 * * *", "2011-12-29", APIA, days=2) == [
        "29 12:00-1000",
        "31 00:00+1400",
        "31 12:00+1400",
    ]
    assert times("0 */12 * * *", "2011-12-29", APIA, days=1.5) == [
        "29 00:00-1000",
        "29 12:00-1000",
        "31 00:00+1400",
    ]
    after = datetime(2011, 12, 1, tzinfo=APIA)
    assert next_run("0 * 30 12 *", after, APIA) == datetime(2012, 12, 30, tzinfo=APIA)


#: A night with a change in each, from noon to noon UTC.
NIGHTS = [
    ("Europe/Berlin", "2025-03-29"),
    ("Europe/Berlin", "2025-10-25"),
    ("America/New_York", "2025-03-09"),
    ("America/New_York", "2025-11-01"),
    ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2025-04-05"),
    ("Australia/Lord_Howe", "2025-10-04"),
    ("America/Sao_Paulo", "2018-11-03"),
    ("America/Sao_Paulo", "2018-02-17"),
    ("Africa/Casablanca", "2025-02-22"),
    ("Africa/Casablanca", "2025-04-05"),
]
MINUTES = st.sampled_from(["0", "15", "*/10", "0,30", "45-50", "*/25", "1-59/7"])
HOURS = st.sampled_from(["*", "*/2", "*/3", "*/1", "0", "1", "2", "3", "1-3", "0,2", "0-23", "1/2"])
DAYS = st.sampled_from(["* *", "* 0", "1-15 *", "* 1-6", "5 6"])


@cache
def clock(zone: str, night: str) -> list[tuple[datetime, datetime]]:
    """Minute by minute: the instant, and what clocks show then."""
    noon = utc(night) + timedelta(hours=12)
    instants = [noon + minute * MINUTE for minute in range(-600, 40 * 60)]
    return [(at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in instants]


def read(expression: str, shown: list[tuple[datetime, datetime]]) -> list[datetime]:
    """SPEC's sentence read word by word off a clock, with no word of folds."""
    first, last = min(wall for _, wall in shown), max(wall for _, wall in shown)
    own, named = croniter(expression, first - MINUTE), []
    while (time := own.get_next(datetime)) <= last:
        named.append(time)
    if expression.split()[1].startswith("*"):
        wanted = set(named)
        return [at for at, wall in shown if wall in wanted]
    comings: dict[datetime, datetime] = {}
    for at, wall in shown:
        comings.setdefault(wall, at)
    return sorted(
        {comings.get(time) or next(at for at, wall in shown if wall > time) for time in named}
    )


@settings(max_examples=120, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(NIGHTS), MINUTES, HOURS, DAYS, st.integers(0, 35 * 60), st.integers(0, 119))
def test_in_the_nights_of_change_it_runs_as_a_clock_read_minute_by_minute(
    night: tuple[str, str], minutes: str, hours: str, days: str, start: int, half_seconds: int
) -> None:
    zone, day = night
    dom, dow = days.split()
    expression = f"{minutes} {hours} {dom} * {dow}"
    shown = clock(zone, day)
    after = shown[start][0] + timedelta(seconds=half_seconds / 2)
    expected = [at for at in read(expression, shown) if at > after]
    found = list(islice(runs(expression, after, ZoneInfo(zone)), len(expected)))
    assert found == expected


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
@pytest.mark.parametrize(
    "expression", ["*/5 * * * *", "0,30 1-3 * * *", "20 */2 * * *", "7 0 * * *"]
)
def test_from_every_minute_of_a_night_of_change_the_next_time_is_the_clocks(
    expression: str, zone: str, night: str
) -> None:
    expected = read(expression, clock(zone, night))
    for at, _ in clock(zone, night)[: 36 * 60 : 3]:
        due = next_run(expression, at, ZoneInfo(zone)).astimezone(UTC)
        wanted = next((time for time in expected if time > at), None)
        assert wanted is None or due == wanted
        assert due > at


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("expression", "years"),
    [("0,30 */2 * * *", 1), ("30 2 * * *", 2), ("0 */6 26 10 *", 2), ("0 1 * 4 0", 2)],
)
def test_over_years_it_runs_as_a_clock_read_each_half_hour(
    expression: str, years: int, zone: str
) -> None:
    half_hours = [utc("2025-01-01") + 30 * step * MINUTE for step in range(years * 365 * 48)]
    shown = [(at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in half_hours]
    expected = read(expression, shown)
    found = islice(runs(expression, half_hours[0] - MINUTE, ZoneInfo(zone)), len(expected))
    assert list(found) == expected
