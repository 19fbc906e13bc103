"""The bench's switch between Celery and RQ: what is written into its configuration."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frappe_jobs.errors import ConfigError
from frappe_jobs.frappe_bench import way_in
from frappe_jobs.sites_folder import COMMON_CONFIG, DRAINING, OFF

OTHER = "their_app.config.secrets"


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    return tmp_path


def written(sites: Path, config: dict[str, Any]) -> Path:
    (sites / COMMON_CONFIG).write_text(json.dumps(config))
    return sites


def read(sites: Path) -> Any:
    return json.loads((sites / COMMON_CONFIG).read_text())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, way_in.WAY_IN),
        (OTHER, [OTHER, way_in.WAY_IN]),
        ([OTHER], [OTHER, way_in.WAY_IN]),
        ([], [way_in.WAY_IN]),
    ],
)
def test_on_stands_beside_what_was_there_and_off_leaves_it(
    sites: Path, before: Any, after: Any
) -> None:
    written(
        sites, {"redis_queue": "redis://x"} | ({} if before is None else {"extra_config": before})
    )
    assert way_in.state(sites) == "undecided"
    assert way_in.switch_on(sites) and not way_in.switch_on(sites)
    assert read(sites) == {"redis_queue": "redis://x", "extra_config": after}
    assert way_in.state(sites) == "on"
    assert way_in.switch_off(sites) and not way_in.switch_off(sites)
    left = [one for one in ([before] if isinstance(before, str) else before or [])]
    assert way_in.state(sites) == "off"
    assert read(sites).get("extra_config", []) in (left, before)
    assert way_in.switch_on(sites) and way_in.state(sites) == "on"
    assert OFF not in read(sites)


@pytest.mark.parametrize("before", [None, OTHER, [OTHER]])
def test_a_switch_that_was_begun_is_known_until_it_is_complete(sites: Path, before: Any) -> None:
    first = {"redis_queue": "redis://x"} | ({} if before is None else {"extra_config": before})
    written(sites, first)
    others = [OTHER] if before else []
    for wanted, ours in (("on", way_in.WAY_IN), ("off", way_in.LOOK_BACK), ("on", way_in.WAY_IN)):
        for _ in range(2):
            way_in.begin(sites, wanted)
            found = read(sites)["extra_config"]
            assert (found if others else [found]) == [*others, ours]
            assert way_in.state(sites) == wanted and read(sites)[DRAINING]
    way_in.begin(sites, "off")
    way_in.complete(sites)
    now = read(sites)
    assert now.pop("extra_config", []) == others and way_in.state(sites) == "off"
    assert now == {"redis_queue": "redis://x", OFF: True}


def test_an_uninstall_leaves_nothing(sites: Path) -> None:
    written(sites, {"redis_queue": "redis://x"})
    way_in.switch_on(sites)
    way_in.switch_off(sites, remember=False)
    assert read(sites) == {"redis_queue": "redis://x"}
    assert way_in.state(sites) == "undecided"


@pytest.mark.parametrize("wrong", [5, {"a": 1}, [1]])
def test_what_frappe_could_not_read_is_an_error_and_stays(sites: Path, wrong: Any) -> None:
    written(sites, {"extra_config": wrong})
    with pytest.raises(ConfigError, match="extra_config"):
        way_in.switch_on(sites)
    assert read(sites) == {"extra_config": wrong}


def imported(code: str, *without: str) -> subprocess.CompletedProcess[str]:
    """Run the code where these packages cannot be imported; prints what it has imported."""
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    script = f"import sys\n{blocked}{code}\nprint(*sys.modules)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_bench_needs_no_sqlalchemy() -> None:
    rooms = ("api", "context", "runtime", "cli", "cli.worker", "cli.scheduler", "cli.pending",
             "cli.jobs", "cli.migrate", "cli.scheduled_jobs", "cli.queues", "celery")  # fmt: skip
    code = "".join(f"import frappe_jobs.{room}\n" for room in rooms)
    done = imported(code, "sqlalchemy")
    assert done.returncode == 0, done.stderr


def test_frappe_15_which_lacks_what_its_companions_call_can_be_switched() -> None:
    scheduler = "types.SimpleNamespace(start_scheduler=lambda: None)"
    code = (
        "import types\nsys.modules['frappe'] = types.ModuleType('frappe')\n"
        f"sys.modules['frappe.utils'] = types.SimpleNamespace(scheduler={scheduler})\n"
        "from frappe_jobs.frappe_bench.rq import starting"
    )
    done = imported(code)
    assert done.returncode == 0, done.stderr


def test_the_commands_are_listed_without_celery_and_without_frappe() -> None:
    done = imported("import frappe_jobs.commands", "frappe")
    assert done.returncode == 0, done.stderr
    assert not {"celery", "kombu", "redbeat", "sqlalchemy"} & {*done.stdout.split()}


def test_a_worker_loads_nothing_that_only_other_commands_need() -> None:
    """Each process of a bench's workers would keep it."""
    done = imported("import frappe_jobs.commands, frappe_jobs.cli.worker, celery.apps.worker")
    assert done.returncode == 0, done.stderr
    loaded = {*done.stdout.split()}
    others = {"celery.beat", "celery.bin", "frappe_jobs.doctor", "frappe_jobs.deploy", "redbeat"}
    assert not {"sqlalchemy", *others} & loaded
    assert not {"starlette", "uvicorn", "jinja2", "anyio", "frappe_jobs.web"} & loaded


def test_a_worker_loads_nothing_of_a_history_metrics_or_alerts_that_nobody_asked_for() -> None:
    code = "import frappe_jobs.api, frappe_jobs.cli.worker, frappe_jobs.celery.app"
    rooms = {f"frappe_jobs.{room}" for room in ("history", "metrics", "alerts")}
    loaded = {*imported(code).stdout.split()}
    assert "frappe_jobs.celery.sweeper" in loaded
    assert not {"prometheus_client", "frappe_jobs.celery.watching", "smtplib", *rooms} & loaded


@pytest.mark.parametrize(
    ("command", "package"), [("web", "uvicorn"), ("metrics", "prometheus_client")]
)
def test_without_its_extra_a_command_says_what_to_install(command: str, package: str) -> None:
    ask = f"from frappe_jobs.cli.options import load; load('frappe_jobs.{command}.serve', "
    done = imported(ask + f"{command!r}, [{package!r}])", package)
    assert f"{package} is not installed" in done.stderr
    assert f"pip install 'frappe_jobs[{command}]'" in done.stderr


def test_what_everybody_installs_is_no_more_than_it_was() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    wanted = re.findall(r"^[\w-]+", setup["options"]["install_requires"], re.MULTILINE)
    assert {*wanted} == {"celery", "redis", "croniter", "celery-redbeat", "click", "packaging"}
