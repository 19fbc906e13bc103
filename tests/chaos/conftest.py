"""A run's form and seed, its benches on each broker, and the report at its end."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from chaos import clock, report
from chaos.runs import Runs, Verdict, judge
from chaos.servers import RabbitMQ
from contract.conftest import Server, server

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.testing import wait_until

Value = TypeVar("Value")

IS_FULL = os.environ.get("CHAOS") == "full"
#: One for all processes of a run, which inherit it.
SEED = int(os.environ.setdefault("CHAOS_SEED", str(secrets.randbelow(10**6))))
#: The folder whose text and page are renewed at the end.
WRITE = os.environ.get("CHAOS_WRITE")
#: Seconds; what a killed worker held comes back after it.
LEASE = 4 if IS_FULL else 2


@pytest.fixture
def size() -> Callable[[Value, Value], Value]:
    """The first in the full form, the second in the short one."""
    return lambda full, short: full if IS_FULL else short


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance that the seed repeats, for each test by itself."""
    print(f"CHAOS_SEED={SEED}")
    return Random(f"{SEED} {request.node.nodeid}")


SERVERS = {
    "sqlite": None,
    "postgres": ("POSTGRES_URL", "postgresql+psycopg://root@127.0.0.1:5432/postgres"),
    "mariadb": ("MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306"),
}
#: Each database on each broker; in the short form each once.
PAIRS = [
    (database, broker)
    for broker in ("redis", "rabbitmq")
    for database in SERVERS
    if IS_FULL or (database == "mariadb") == (broker == "rabbitmq")
]


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def database(pair: Any) -> Iterator[Server]:
    if (where := SERVERS[pair[0]]) is None:
        yield Server("sqlite")
    else:
        yield from server(pair[0], *where)


@pytest.fixture
def config(broker: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The bench's configuration; a file may have servers of its own in it."""
    if broker == "redis":
        return {}
    return {"celery_broker_url": request.getfixturevalue("amqp_url")}


@pytest.fixture
def scene(make_bench: Callable[..., Any], config: dict[str, Any]) -> Iterator[Scene]:
    """A bench of the test's own, its first site open."""
    settings = {"frappe_jobs_lease": LEASE, "frappe_jobs_scheduler_lock": clock.LOCK}
    bench = make_bench(**settings | config)
    bench.use()
    with frappe.site("site1"):
        yield Scene(bench)
    bench.remove()  # while its broker is there
    bench.amqp_url = None


@pytest.fixture
def schedule(scene: Scene) -> Scene:
    """The same, with very many jobs that are due every few seconds."""
    clock.make_jobs(scene.bench)
    return scene


class Scene:
    """A bench, and what its jobs leave behind."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.runs = Runs(bench.path / "trace.jsonl")

    def open(self) -> int:
        """How many jobs have not ended."""
        here = runtime.current()
        return int(here.ledger.redis.zcard(f"{here.settings.prefix}open:site1"))

    def wait_for_all(self, timeout: float, check: Callable[[], object] = lambda: None) -> None:
        """Return once all jobs have ended."""

        def ended() -> bool:
            check()
            return self.open() == 0

        wait_until(ended, timeout, interval=0.1)

    def judge(self, sent: list[str]) -> Verdict:
        """The verdict on the jobs of these ids."""
        return judge(sent, runtime.current().ledger.records("site1"), self.runs.events)


@pytest.fixture
def found(
    broker: str, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """Puts figures into the report, under the first line of the file's docstring."""

    def put(figures: str) -> None:
        record_property("chaos", (request.module.__doc__.partition("\n")[0], broker, figures))
        print(figures)

    return put


@pytest.fixture(scope="session")
def needs_rabbitmq_server() -> None:
    """Skips by name where a node of the test's own cannot be; fails where CI is set."""
    if RabbitMQ.script() is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("There is no rabbitmq-server here, of which a test would start a node of its own.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        report.Row(*value, passed=ended.passed)
        for outcome in ("passed", "failed")
        for ended in terminalreporter.stats.get(outcome, [])
        for key, value in getattr(ended, "user_properties", [])
        if key == "chaos" and ended.when == "call"
    ]
    if not rows:
        return
    rows.sort(key=lambda row: row.what)  # stable: brokers stay in their order
    text = report.text(facts(), rows)
    terminalreporter.section("chaos")
    terminalreporter.write(text)
    if WRITE:
        report.write(text, Path(WRITE))


def facts() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    form = "full" if IS_FULL else "short"
    return (
        f"seed {SEED}, {form} form, a lease of {LEASE} s\n"
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {packages}"
    )
