"""What an expression says in words."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from frappe_jobs.cron import check
from frappe_jobs.errors import BadCron
from frappe_jobs.scheduler.frequency import Schedule
from frappe_jobs.scheduler.words import expression_in_words, in_words

#: What each field may hold, beside what it may not.
FIELDS = (
    ("*", "*/7", "5", "0", "59", "3-9", "8/20", "?"),
    ("*", "*/4", "5", "0", "23", "3-9", "22-2"),
    ("*", "*/4", "5", "l", "L", "31", "3-9", "?", "15W"),
    ("*", "*/5", "5", "jan", "feb-nov", "12"),
    ("*", "1#1", "L5", "fri#2", "mon", "sun-sat", "0", "7", "*/2", "?"),
    ("*", "0", "30", "*/20", "7-9"),
)
HOOKS = [
    expression
    for file in sorted((Path(__file__).parents[1] / "data").glob("hooks_*.json"))
    for expression in json.loads(file.read_text())["scheduler_events"].get("cron", {})
]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0/15 * * * *", "every 15 minutes"),
        ("2-23/5 * * * *", "at the minutes 2, 7, 12, 17 and 22 of every hour"),
        ("15 * * * *", "at minute 15 of every hour"),
        ("hourly", "at minute 0 of every hour"),
        ("* 8 * * *", "every minute of hour 8"),
        ("*/20 8-17 * * 1,3", "every 20 minutes of the hours 8 to 17 on Monday and Wednesday"),
        ("@daily", "at 00:00 every day"),
        ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00 every day"),
        ("0 9 * * mon-fri", "at 09:00 on Monday to Friday"),
        ("0 0 * * 7", "at 00:00 on Sunday"),
        ("0 9 * * 5#2", "at 09:00 on the second Friday of the month"),
        ("0 9 * * L5", "at 09:00 on the last Friday of the month"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 1,15 * *", "at 00:00 on days 1 and 15 of the month"),
        ("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday"),
        ("annual", "at 00:00 on day 1 of the month in January"),
        ("* * * * * *", "every second"),
        ("* * * * * */5", "every 5 seconds"),
        ("15 10 * * * 30", "at 10:15:30 every day"),
        ("10 * * * * */20", "every 20 seconds of minute 10 of every hour"),
        ("0 0 1 *,5 *", "at 00:00 on day 1 of the month"),
        ("0 0 *,13 * *", "at 00:00 every day"),
        ("*,5 *,3 * * *", "every minute"),
        ("0 0 * * 1#1,*", "at 00:00 on the first Monday of the month"),
        ("0 0 13 * 5#2", "at 00:00 on the second Friday of the month"),
        (
            "0 0 * * 1#1,5#2",
            "at 00:00 on the first Monday of the month and the second Friday of " "the month",
        ),
    ],
)
def test_it_says_what_croniter_reads(expression: str, words: str) -> None:
    assert expression_in_words(expression) == words


@pytest.mark.parametrize("expression", HOOKS)
def test_every_expression_of_the_real_apps_has_words(expression: str) -> None:
    assert expression_in_words(expression).startswith(("at ", "every "))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_an_expression_has_words(seed: int) -> None:
    chance = Random(seed)
    for _ in range(100):
        parts = [",".join(chance.choices(field, k=chance.choice((1, 1, 2, 3)))) for field in FIELDS]
        expression = " ".join(parts[: chance.choice((5, 5, 6))])
        try:
            check(expression)
        except BadCron:
            continue
        assert expression_in_words(expression).startswith(("at ", "every ")), expression


def test_an_offset_and_an_interval_are_told() -> None:
    assert in_words(Schedule("0 0 * * *", offset=312)) == "at 00:00 every day, and 5 min 12 s later"
    assert in_words(Schedule(every=45)) == "every 45 seconds, counted from midnight"
