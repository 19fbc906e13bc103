"""What the doctor says of a Frappe bench between RQ and Celery, and of what is installed there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doctored import one, worst

from frappe_jobs.config import load_settings
from frappe_jobs.doctor.beside_rq import check_installed, check_rq_auth, check_switch
from frappe_jobs.doctor.versions import check_versions
from frappe_jobs.ledger.rq import SeenOfRQ
from frappe_jobs.servers.in_force import SettingsInForce

NOBODY = SeenOfRQ([], {})
STRANDED = SeenOfRQ([], {"default": 2, "long": 1})
RUNNING = SeenOfRQ(["a", "b"], {})
BUSY = SeenOfRQ(["a"], {"default": 2})


@pytest.mark.parametrize(
    ("state", "ours", "rq", "level", "said"),
    [
        ("on", 1, STRANDED, "error", "Jobs wait in RQ's queues, and no worker runs them any "
                                     "more: default 2, long 1."),
        ("on", 0, RUNNING, "error", "The jobs go to Celery, but only RQ's are run: 2 workers of RQ "
                                    "(a, b) online, none of ours."),
        ("on", 1, RUNNING, "warning", "Still running beside ours: 2 workers of RQ (a, b); they "
                                      "have nothing to do."),
        ("on", None, RUNNING, "warning", "Still running beside ours: 2 workers of RQ (a, b); they "
                                         "have nothing to do."),
        ("on", 1, BUSY, "warning", "Still running beside ours: 1 worker of RQ (a); 2 jobs of RQ's "
                                   "wait."),
        ("off", 1, RUNNING, "warning", "bench use-celery is off: the bench's jobs go to RQ, none "
                                       "to the 1 worker of ours online."),
        ("off", 2, NOBODY, "error", "bench use-celery is off: the bench's jobs go to RQ, none to "
                                    "the 2 workers of ours online, and RQ has none online: no job "
                                    "runs."),
        ("undecided", 1, None, "warning", "bench use-celery was never called: the bench's jobs go "
                                          "to RQ, none to the 1 worker of ours online."),
    ],
)  # fmt: skip
def test_who_is_asked_and_who_is_there_must_be_the_same(state, ours, rq, level, said):
    found = [*check_switch(state, ours, rq)]
    assert worst(found) == [(level, said)]
    assert one(found, said).cure


@pytest.mark.parametrize(
    ("state", "ours", "rq"),
    [
        ("on", 1, NOBODY), ("on", 0, NOBODY), ("on", None, None), ("on", 1, None),
        ("off", 0, RUNNING), ("off", 0, STRANDED), ("undecided", None, RUNNING),
    ],
)  # fmt: skip
def test_where_they_are_nothing_is_wrong(state, ours, rq):
    assert worst(check_switch(state, ours, rq)) == []


def test_a_way_in_that_fails_is_an_error_as_frappe_only_prints_it():
    faults = ["use_celery raises AttributeError: no get_queue"]
    found = [*check_switch("on", 1, NOBODY, faults)]
    assert [(one.level, one.what) for one in found] == [
        ("error", f"use-celery is on, and yet not all of Frappe goes to Celery: {faults[0]}.")
    ]
    assert "use-celery off" in found[0].cure


def test_before_the_switch_what_waits_on_rq_is_told():
    (found,) = check_switch("undecided", 0, BUSY)
    assert found.what == (
        "bench use-celery was never called: the bench's jobs go to RQ. RQ's workers online: 1; "
        "jobs that wait there: default 2."
    )
    (found,) = check_switch("off", 0, NOBODY)
    assert found.what.endswith("RQ's workers online: 0; no job waits there.")


@pytest.fixture
def settings_of(tmp_path: Path):
    def write(apps: str = "frappe\nfrappe_jobs\n", **config: object):
        (tmp_path / "apps.txt").write_text(apps)
        config = {"redis_queue": "redis://127.0.0.1:1", "bench_id": "b"} | config
        (tmp_path / "common_site_config.json").write_text(json.dumps(config))
        return SettingsInForce.of(load_settings(tmp_path))

    return write


def test_an_app_that_is_not_listed_or_not_installed_is_told(settings_of):
    assert worst(check_installed(settings_of(), {"a": True})) == []
    (missing,) = check_installed(settings_of(), {"a": True, "b": False})
    assert (missing.level, missing.cure) == ("warning", "bench --site b install-app frappe_jobs")
    assert missing.what.startswith("b: frappe_jobs is not installed there")
    (unlisted,) = check_installed(settings_of("frappe\n"), {"a": True, "b": False})
    assert unlisted.level == "error"
    assert "apps.txt does not name frappe_jobs" in unlisted.what


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, None),
        ({"use_rq_auth": True}, "without a user's name"),
        ({"use_rq_auth": True, "redis_queue": "redis://b:secret@h:1"}, "as 'b', which may touch"),
        ({"use_rq_auth": True, "celery_broker_url": "redis://jobs:secret@h:1"}, None),
    ],
)
def test_frappes_own_redis_users_are_not_ours(settings_of, config, said):
    found = [*check_rq_auth(settings_of(**config))]
    assert len(found) == bool(said)
    if said:
        assert said in found[0].what
        assert "frappe-jobs setup rights" in found[0].cure
        assert "secret" not in str(found)


ASKED = {
    "frappe_jobs": ["celery>=5.6", "click>=8.1", "celery<5.7; extra == 'frappe15'"],
    "frappe": ["click~=8.1.0", "redis~=4.5.5", "nope>1; python_version < '3'"],
    "kombu": ["not a requirement at all!"],
}
THERE = {
    "celery": "5.6.3", "click": "8.1.8", "redis": "4.5.5", "kombu": "5.6.2", "frappe": "15.50.0",
}  # fmt: skip


def versions(on_bench: bool = True, **there: str | None):
    installed = THERE | there
    return [*check_versions(on_bench, lambda name: ASKED.get(name, []), installed.get)]


def test_versions_that_fit_are_named():
    (found,) = versions()
    assert (found.level, found.what) == (
        "ok",
        "The versions are as required: celery 5.6.3, kombu 5.6.2, redis 4.5.5, " "click 8.1.8.",
    )
    assert [one.level for one in versions(celery="5.7.0rc1")] == ["ok"]


def test_what_is_too_old_or_is_missing_or_moved_frappes_pins_is_told():
    assert worst(versions(celery="5.5.0")) == [
        ("error", "celery 5.5.0 is installed, but frappe_jobs requires celery>=5.6.")
    ]
    assert worst(versions(celery=None)) == [
        ("error", "celery is not installed, but frappe_jobs requires celery>=5.6.")
    ]
    (moved,) = versions(redis="6.4.0")
    assert (moved.level, moved.what) == (
        "warning", "redis 6.4.0 is installed, but frappe requires redis~=4.5.5.",
    )  # fmt: skip
    assert moved.cure == "pip install 'frappe_jobs[frappe15]' 'redis~=4.5.5'"
    assert "frappe_jobs[frappe16]" in versions(redis="6.4.0", frappe="16.0.0.dev0")[0].cure
    assert versions(redis="6.4.0", frappe="17.0.0")[0].cure == "pip install 'redis~=4.5.5'"
    assert worst(versions(on_bench=False, redis="6.4.0")) == []


def test_those_of_this_environment_fit():
    assert worst(check_versions(False)) == []
