"""What hooks and the configuration may say of limits, and what is said of what they may not."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from frappe_jobs.config import load_settings
from frappe_jobs.limits.declared import Declared, declared

ANYTHING = [
    None, True, False, 0, -1, 1.5, 10**30, float("nan"), "", "x", "\0", "1/m", [], {}, [1], {"": 1},
    {"running": None}, {"rate": "1/m", "more": 1}, "argument:", "a" * 10_000, b"x", object,
]  # fmt: skip


@pytest.fixture
def declare(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives what is declared by these hooks of an app, and this setting."""
    (tmp_path / "site1").mkdir()
    (tmp_path / "site1" / "site_config.json").write_text("{}")
    (tmp_path / "apps.txt").write_text("limited_app\n")
    app, hooks = ModuleType("limited_app"), ModuleType("limited_app.hooks")
    app.__path__ = []  # it is a package
    app.sync = lambda customer: None  # type: ignore[attr-defined]
    app.sync.__module__ = "limited_app"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limited_app", app)
    monkeypatch.setitem(sys.modules, "limited_app.hooks", hooks)

    def call(of_app: Any = None, setting: Any = None, *, checks: bool = False) -> Declared:
        hooks.job_limits = of_app  # type: ignore[attr-defined]
        config = {} if setting is None else {"frappe_jobs_limits": setting}
        (tmp_path / "common_site_config.json").write_text(json.dumps(config))
        return declared(load_settings(tmp_path), checks_methods=checks)

    return call


def test_each_spelling_is_read(declare: Any) -> None:
    found = declare(
        {
            "limited_app.sync": {"running": 1},
            "limited_app.call": {"rate": "30/m", "per": "argument:customer"},
            "limited_app.all": {"running": 2, "rate": "9/s", "per": "bench"},
        },
        {
            "bench": {"running": 20},
            "site": {"running": 5},
            "site:site1": {"running": 0},
            "queue:long": {"rate": "1/d"},
            "method:limited_app.all": {"rate": "2/h"},
            "concurrency_key": {"running": 3},
        },
    )
    assert found == Declared(
        {
            "method limited_app.sync": "running=1;per=site",
            "method limited_app.call": "rate=30/60;per=argument:customer",
            "method limited_app.all": "rate=2/3600;per=site",  # the configuration's
            "bench": "running=20",
            "site": "running=5",
            "site site1": "running=0",
            "queue long": "rate=1/86400",
            "key": "running=3",
        }
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"sites": {"running": 1}}, "frappe_jobs_limits.sites is none of: bench, site, site:NAME"),
        ({"site:site2": {"running": 1}}, "site2 names no site of the bench. Did you mean 'site1'"),
        ({"queue:lon": {"running": 1}}, "lon names no queue of the bench. Did you mean 'long'"),
        ({"bench:x": {"running": 1}}, "frappe_jobs_limits.bench:x is none of"),
        ({"method:no path": {"running": 1}}, "names no dotted path of a method"),
        ({"bench": 5}, 'frappe_jobs_limits.bench must be an object with "running"'),
        ({"bench": {"running": "5"}}, ".running must be a whole number from 0 to 100,000; not '5'"),
        ({"bench": {"rate": "often"}}, '.rate must say how many in a second, minute, hour or day'),
        ({"bench": {"rate": "0/m"}}, "from 1 to 100,000 in one of s, m, h, d; not '0/m'"),
        ({"bench": {"running": 1, "per": "site"}}, "knows the keys running, rate; not 'per'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_the_others_hold(declare: Any, setting: Any, said: str) -> None:
    found = declare(None, {**setting, "site": {"running": 7}})
    assert found.rules == {"site": "running=7"}
    (text,) = found.wrong
    assert "common_site_config.json" in text and said in text
    assert text.endswith("This limit is not in force.") or "names no" in text or "none of" in text


def test_of_an_app_the_hook_is_named(declare: Any) -> None:
    of_app = {
        "limited_app.sync": {"running": 1, "per": "argument:customer"},
        "limited_app.gone": {"running": 1},
        "sync": {"running": 1},
        5: {"running": 1},
    }
    found = declare(of_app, checks=True)
    assert [*found.rules] == ["method limited_app.sync"]
    assert [text.partition(" ")[0] for text in found.wrong] == ["limited_app/hooks.py:"] * 3
    gone = next(text for text in found.wrong if "gone" in text)
    assert "job_limits['limited_app.gone']" in gone and "was not found" in gone
    wrong = declare({"limited_app.sync": {"running": 1, "per": "argument:who"}}, checks=True).wrong
    assert "takes no argument 'who'" in wrong[0]
    assert "must be a dictionary of methods; not 7" in declare(7).wrong[0]


@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: repr(value)[:20])
def test_whatever_stands_there_nothing_but_a_line_comes_of_it(declare: Any, value: Any) -> None:
    for of_app in (
        value,
        {"limited_app.sync": value},
        {"a.b": {"rate": value}},
        {"a.b": {"running": value}},
        {"a.b": {"running": 1, "per": value}},
    ):
        found = declare(of_app)
        assert all(len(text) < 400 for text in found.wrong)
        assert found.wrong or set(found.rules) <= {"method a.b", "method limited_app.sync"}
    if value is not object and not isinstance(value, bytes):
        for setting in (value, {"bench": value}, {"bench": {"running": value}}, {str(value): {}}):
            assert all(len(text) < 400 for text in declare(None, setting).wrong)
