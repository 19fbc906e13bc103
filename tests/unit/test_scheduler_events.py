"""The apps' hooks become scheduled jobs; what is wrong with them is said, and the rest stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from frappe_jobs.host.schedule_records import ScheduledJob
from frappe_jobs.scheduler.events import scheduled_jobs
from frappe_jobs.scheduler.frequency import Schedule, queue_of
from frappe_jobs.scheduler.sync import schedule_of
from frappe_jobs.texts.finding import Finding

DATA = Path(__file__).parents[1] / "data"
GOOD = {"daily": ["shop.tasks.good"]}
GOOD_JOB = ScheduledJob("shop.tasks.good", "Daily")

#: What Frappe 15's Scheduled Job Type makes of a frequency, written down from its source.
FRAPPES = {
    "All": "*/4 * * * *",
    "Hourly": "0 * * * *",
    "Hourly Long": "0 * * * *",
    "Daily": "0 0 * * *",
    "Daily Long": "0 0 * * *",
    "Weekly": "0 0 * * 0",
    "Weekly Long": "0 0 * * 0",
    "Monthly": "0 0 1 * *",
    "Monthly Long": "0 0 1 * *",
}


def hooks_of(name: str) -> dict[str, Any]:
    events: dict[str, Any] = json.loads((DATA / name).read_text())["scheduler_events"]
    return events


def only_finding(events: object) -> Finding:
    """What is wrong with those events beside a good one, which stays."""
    jobs, findings = scheduled_jobs({"bad": events, "shop": GOOD})
    assert jobs == [GOOD_JOB]
    [finding] = findings
    assert finding.level == "error" and "'bad'" in finding.what
    return finding


# --- what the hooks name


@pytest.mark.parametrize(("app", "count"), [("frappe_15", 43), ("hrms", 14)])
def test_every_job_has_the_frequency_expression_and_queue_that_frappe_gives_it(
    app: str, count: int
) -> None:
    events = hooks_of(f"hooks_{app}.json")
    expected = {
        (method, "Cron", expression, "default")
        for expression, methods in events.pop("cron", {}).items()
        for method in methods
    }
    for event, methods in events.items():
        name = event.replace("_", " ").title()
        queue = "long" if "Long" in name else "default"
        expected |= {(method, name, FRAPPES[name], queue) for method in methods}

    jobs, findings = scheduled_jobs({app: hooks_of(f"hooks_{app}.json")})

    assert findings == []
    assert len(jobs) == count
    assert expected == {
        (
            job.method,
            job.frequency,
            schedule_of(job, "site1", 240).expression,
            queue_of(job.frequency),
        )
        for job in jobs
    }
    assert {job.app for job in jobs} == {app}


def test_the_jobs_of_several_apps_keep_their_order() -> None:
    jobs, _ = scheduled_jobs({"frappe": hooks_of("hooks_frappe_15.json"), "shop": GOOD})
    assert jobs[0].cron_format == "0/15 * * * *" and jobs[-1] == GOOD_JOB
    assert jobs[-1].app == "shop"


def test_a_jobs_schedule_is_made_for_its_site_and_the_interval() -> None:
    jobs, _ = scheduled_jobs({"shop": {"all": ["shop.a"], "daily_long": ["shop.b"]}})
    assert schedule_of(jobs[0], "site1", 90) == Schedule(every=90)
    assert schedule_of(jobs[1], "site1", 90) == Schedule.of("Daily Long", "shop.b", "site1")
    assert schedule_of(jobs[1], "site1", 90) != schedule_of(jobs[1], "site2", 90)


def test_the_expression_of_a_cron_job_alone_stands_in_its_cron_format() -> None:
    jobs, _ = scheduled_jobs({"shop": {"cron": {"0/5 * * * *": ["shop.a"]}, "daily": ["shop.b"]}})
    assert [job.cron_format for job in jobs] == ["0/5 * * * *", ""]


@pytest.mark.parametrize("name", ["annual", "daily", "hourly_long", "all"])
def test_a_frequencys_name_as_a_key_of_cron_is_that_frequency(name: str) -> None:
    under_cron, findings = scheduled_jobs({"shop": {"cron": {name: ["shop.a"]}}})
    assert under_cron == scheduled_jobs({"shop": {name: ["shop.a"]}})[0]
    assert findings == [] and len(under_cron) == 1


@pytest.mark.parametrize(
    "events",
    [
        {"daily": "shop.a", "cron": {"@hourly": "shop.b"}},
        {"daily": ("shop.a",), "cron": {"@hourly": ("shop.b",)}},
        [{"daily": ["shop.a"]}, {"cron": {"@hourly": ["shop.b"]}}],
        {"daily": ["shop.a"], "cron": [{"@hourly": ["shop.b"]}]},
        {"Daily": ["shop.a"], "Cron": {"@hourly": ["shop.b"]}},
    ],
    ids=["one method", "tuples", "merged", "merged cron", "capitals"],
)
def test_the_hooks_may_look_as_frappe_merges_them(events: object) -> None:
    jobs, findings = scheduled_jobs({"shop": events})
    assert jobs == [ScheduledJob("shop.a", "Daily"), ScheduledJob("shop.b", "Cron", "@hourly")]
    assert findings == []


@pytest.mark.parametrize("events", [{}, [], {"daily": []}, {"cron": {}}, {"cron": {"@daily": []}}])
def test_events_without_jobs_are_nothing_wrong(events: object) -> None:
    assert scheduled_jobs({"shop": events}) == ([], [])


def test_a_job_that_two_apps_name_is_one_and_the_first_ones() -> None:
    events = {"daily": ["shop.a", "shop.a"], "cron": {"@daily": ["shop.a"]}}
    jobs, findings = scheduled_jobs({"shop": events, "other": events})
    assert [(job.frequency, job.app) for job in jobs] == [("Daily", "shop"), ("Cron", "shop")]
    assert findings == []


def test_one_method_may_have_several_frequencies_and_expressions() -> None:
    events = {
        "daily": ["shop.a"],
        "yearly": ["shop.a"],
        "annual": ["shop.a"],
        "cron": {"@daily": ["shop.a"], "0 0 * * *": ["shop.a"]},
    }
    jobs, _ = scheduled_jobs({"shop": events})
    assert len(jobs) == 5


# --- what is wrong with them


@pytest.mark.parametrize(
    "expression", ["60 * * * *", "0 0 31 2 *", "often", "", "* * * * * * *", "cron", 5]
)
def test_a_bad_expression_is_named_with_its_app_and_event_and_left_out(expression: object) -> None:
    finding = only_finding({"cron": {expression: ["bad.tasks.a", "bad.tasks.b"]}})
    assert f"scheduler_events['cron'][{expression!r}]" in finding.what
    assert repr(expression) in finding.cure


def test_a_good_expression_beside_a_bad_one_stays() -> None:
    jobs, findings = scheduled_jobs({"shop": {"cron": {"bad": ["shop.a"], "@daily": ["shop.a"]}}})
    assert [job.cron_format for job in jobs] == ["@daily"] and len(findings) == 1


def test_an_unknown_event_is_named_with_those_that_exist() -> None:
    finding = only_finding({"fortnightly": ["bad.tasks.a"]})
    assert "scheduler_events['fortnightly']" in finding.what
    assert "daily_long" in finding.cure and "cron" in finding.cure


@pytest.mark.parametrize("event", [None, 5, ("daily",)])
def test_an_event_that_is_no_text_is_named(event: object) -> None:
    assert repr(event) in only_finding({event: ["bad.tasks.a"]}).what


@pytest.mark.parametrize("events", ["daily", 5, None, True])
def test_events_that_are_no_dict_are_named(events: object) -> None:
    finding = only_finding(events)
    assert f"scheduler_events holds {events!r}" in finding.what
    assert "dict" in finding.cure and "daily_long" in finding.cure


@pytest.mark.parametrize("method", [None, 5, "", "  ", {"a": 1}, ["x.y"], b"a.b"], ids=repr)
def test_a_method_that_is_no_text_is_named(method: object) -> None:
    for events in ({"weekly": [method]}, {"cron": {"@daily": [method]}}):
        finding = only_finding(events)
        assert f"holds {method!r}" in finding.what
        assert "['shop.tasks.report']" in finding.cure


def test_a_good_method_beside_a_bad_one_stays() -> None:
    jobs, findings = scheduled_jobs({"shop": {"daily": [None, "shop.tasks.good"]}})
    assert jobs == [GOOD_JOB] and len(findings) == 1


def test_what_follows_a_bad_value_in_merged_hooks_stays() -> None:
    jobs, findings = scheduled_jobs({"shop": [5, {"cron": ["x.y", {"@daily": ["shop.a"]}]}, GOOD]})
    assert jobs == [ScheduledJob("shop.a", "Cron", "@daily"), GOOD_JOB] and len(findings) == 2


@pytest.mark.parametrize("value", [["bad.tasks.a"], "bad.tasks.a", None])
def test_cron_without_expressions_is_named(value: object) -> None:
    finding = only_finding({"cron": value})
    assert "scheduler_events['cron'] holds" in finding.what and "'0 9 * * 1'" in finding.cure


def test_a_finding_is_one_short_line_whatever_it_speaks_of() -> None:
    long = "1,\n" * 50_000
    for events in ({"cron": {long: ["a.b"]}}, {long: ["a.b"]}, {"daily": [[long]]}, long):
        finding = only_finding(events)
        for text in (finding.what, finding.cure):
            assert len(text) < 700 and "\n" not in text
