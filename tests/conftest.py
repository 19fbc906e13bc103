"""Real servers, real benches, real workers, each test's own."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import leftovers
import pytest
import redis
import redis_version
import warm
from acme import trace  # in this process from tests/apps; a bench's workers have their own copy
from kombu import Connection

import frappe_jobs as frappe
from frappe_jobs import embedded, runtime
from frappe_jobs.celery import guard
from frappe_jobs.config import variable
from frappe_jobs.testing import wait_until
from frappe_jobs.texts.masking import masked

APPS = Path(__file__).parent / "apps"
#: Of a server that others use as well, these databases are the tests', by the number of the process
#: in a run of several: a doctor, which looks through all benches of its own, sees no other's there.
DATABASES = range(8, 16)
START_TIMEOUT = 30
#: In each name of a bench's keys and queues.
BENCH_ID = re.compile(b"test-[0-9a-f]{12}")


class Worker:
    """A real worker process, and what it says."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        reading, writing = os.pipe()
        self.process = bench.popen(*arguments, stderr=writing)
        os.close(writing)
        self._pipe = os.fdopen(reading, errors="replace")
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self.lines.append(line.rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_ready(self) -> None:
        wait_until(lambda: "ready" in self.lines or self.process.poll() is not None, START_TIMEOUT)
        assert self.process.poll() is None, self.log

    @property
    def children(self) -> list[int]:
        """Its processes: those of a pool are its workers, those of a worker run jobs."""
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in found if not is_guard(int(one))]

    @staticmethod
    def is_alive(pid: int) -> bool:
        """Whether that process runs; one that nobody has reaped yet does not."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def stop(self, timeout: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            wait_until(lambda: self.process.poll() is not None, timeout)
            return self.process.wait()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(5)
            self._reader.join(5)


def is_guard(pid: int) -> bool:
    """Whether it is the shell that waits for a worker's end, or has ended itself."""
    try:
        return guard.NAME.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


class Bench:
    """A sites folder with two sites and the app acme, its queues on the tests' server."""

    def __init__(self, path: Path, redis_url: str, forker: warm.Forker, **config: Any) -> None:
        self.path, self.redis_url, self.forker = path, redis_url, forker
        url = str(config.get("celery_broker_url"))
        self.amqp_url = url if url.startswith("amqp") else None
        self.sites = path / "sites"
        #: What its processes find in their environment, beside what the tests' own have.
        self.variables: dict[str, str] = {}
        #: Whether one of them is for Python itself, as it starts.
        self.starts_cold = False
        self.id = f"test-{uuid4().hex[:12]}"
        for site in ("site1", "site2"):
            self.write(f"{site}/site_config.json", {"db_type": "sqlite"})
        self.sites.joinpath("apps.txt").write_text("acme\n")
        self.config = {"bench_id": self.id, "redis_queue": redis_url} | config
        self.write("common_site_config.json", self.config)
        shutil.copytree(APPS / "acme", path / "acme", dirs_exist_ok=True)

    def write(self, name: str, content: Any) -> None:
        file = self.sites / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    @property
    def environment(self) -> dict[str, str]:
        ours = {variable("redis_queue"), variable("celery_broker_url")}
        return (
            {k: v for k, v in os.environ.items() if k not in ours}
            | {
                "SITES_PATH": str(self.sites),
                "PYTHONWARNINGS": "",
            }
            | self.variables
        )

    @property
    def start(self) -> warm.Start:
        return warm.start_cold if self.starts_cold else self.forker.start

    def popen(self, *arguments: str, stderr: int) -> warm.Process | subprocess.Popen[bytes]:
        """A command that runs."""
        with open(os.devnull) as nothing:
            streams = nothing.fileno(), 1, stderr
            return self.start(arguments, self.path, self.environment, *streams)

    def run(self, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """A command, as a user types it."""
        return warm.run(self.start, arguments, self.path, self.environment, input)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Code in a process of its own, as a user's program has it."""
        return warm.run(self.start, [code], self.path, self.environment, "", module=warm.CODE)

    def worker(self, *arguments: str) -> AbstractContextManager[Worker]:
        """A worker that is ready; stopped at the end, whatever happened."""
        return self.worker_of("worker", *arguments)

    @contextmanager
    def worker_of(self, *command: str) -> Iterator[Worker]:
        """The same, of any command that begins one."""
        with self.process(*command) as worker:
            worker.wait_ready()
            yield worker

    @contextmanager
    def process(self, *command: str) -> Iterator[Worker]:
        """A worker as it starts; stopped at the end, whatever happened."""
        worker = Worker(self, *command)
        try:
            yield worker
        finally:
            worker.stop()

    @contextmanager
    def worker_of_app(self, name: str, code: str) -> Iterator[tuple[warm.Process, Path]]:
        """Celery's own worker of an app that is this code, and its log; killed if it runs on."""
        (self.path / f"{name}.py").write_text(textwrap.dedent(code))
        self.variables["PYTHONPATH"] = str(self.path)
        log = self.path / f"{name}.log"
        with open(os.devnull) as nothing, log.open("w") as out:
            process = self.forker.start(
                ["-A", name, "worker", "-c", "1", "-Q", f"{self.id}:default"],
                self.path, self.environment, nothing.fileno(), out.fileno(), out.fileno(),
                module="celery",
            )  # fmt: skip
        try:
            yield process, log
        finally:
            process.kill()
            process.wait(20)

    def use(self) -> runtime.Runtime:
        """Make it the bench of this process."""
        os.environ["SITES_PATH"] = str(self.sites)
        return runtime.use(self.sites)

    def marks(self, what: str | None = None) -> list[dict[str, Any]]:
        """What acme's jobs and hooks wrote down."""
        return trace.marks(what)

    def remove(self) -> None:
        """Nothing of this bench stays on servers that others use as well."""
        self.remove_queues()
        remove_keys(self.redis_url, {self.id})

    def remove_queues(self) -> None:
        if self.amqp_url and ":1//" not in self.amqp_url:  # where nothing ever answers
            with Connection(self.amqp_url) as connection:
                for name in ("short", "default", "long", "reports"):
                    queue = f"{self.id}:{name}"
                    connection.default_channel.queue_delete(queue)
                    connection.default_channel.exchange_delete(queue)


def remove_keys(redis_url: str, bench_ids: set[str]) -> None:
    """Of all these benches, in one look at a server that may hold very many keys."""
    with redis.Redis.from_url(redis_url) as server:
        found = [
            key
            for key in server.scan_iter("*test-*", count=5000)
            if (its := BENCH_ID.search(key)) and its[0].decode() in bench_ids
        ]
        for start in range(0, len(found), 5000):
            server.delete(*found[start : start + 5000])


#: The files that take longest, of those that would come last: one process would be at each of them
#: for minutes, while the others had nothing left to do.
LONGEST = ("test_browser_bad_input.py", "test_browser.py", "test_actions.py", "test_door.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first; all others stay in their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """REDIS_URL, else the server on the standard port, else an embedded one."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    database = DATABASES[number % len(DATABASES)]
    url = os.environ.get("REDIS_URL", f"redis://127.0.0.1:6379/{database}")
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2) as server:
            server.ping()
    except redis.RedisError:
        if "REDIS_URL" in os.environ:
            pytest.fail(f"REDIS_URL is set, and nothing answers there: {url}")
        folder = tmp_path_factory.mktemp("embedded")
        yield embedded.start(folder)
        embedded.stop(folder)
    else:
        yield url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """The folder of a Redis of the test's own; what it holds survives its restarts."""
    embedded.start(tmp_path)
    yield tmp_path
    embedded.stop(tmp_path)


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """AMQP_URL, else the server on the standard port; skips by name, and fails where CI is set."""
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.connect()
    except OSError as error:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent(f"No RabbitMQ answers at {masked(url)}; AMQP_URL may name another one. {error}")
    return url


@pytest.fixture(scope="session")
def forker() -> Iterator[warm.Forker]:
    forker = warm.Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def make_bench(
    redis_url: str, forker: warm.Forker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Bench]]:
    """Makes benches; their keys are removed at the end."""
    made: list[Bench] = []

    def make(**config: Any) -> Bench:
        made.append(Bench(tmp_path_factory.mktemp("bench"), redis_url, forker, **config))
        return made[-1]

    yield make
    for bench in made:
        bench.remove_queues()
    for url in {bench.redis_url for bench in made}:
        remove_keys(url, {bench.id for bench in made})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set must not reach them."""
    for name in [*os.environ]:
        if name.startswith(("FRAPPE_", "CELERY_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("SITES_PATH", raising=False)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A bench of the test's own, in use in this process."""
    bench = make_bench()
    bench.use()
    return bench


@contextmanager
def opened(bench: Bench) -> Iterator[Bench]:
    """It is in use in this process, its first site open."""
    bench.use()
    with frappe.site("site1"):
        yield bench


@pytest.fixture
def on_redis(make_bench: Callable[..., Bench]) -> Iterator[Bench]:
    """A bench of the test's own on Redis, its first site open."""
    with opened(make_bench()) as bench:
        yield bench


@pytest.fixture
def on_rabbitmq(make_bench: Callable[..., Bench], amqp_url: str) -> Iterator[Bench]:
    """The same on RabbitMQ."""
    with opened(make_bench(celery_broker_url=amqp_url)) as bench:
        yield bench


@pytest.fixture(params=["redis", "rabbitmq"])
def on_each_broker(request: pytest.FixtureRequest) -> Bench:
    """The same on either."""
    found: Bench = request.getfixturevalue(f"on_{request.param}")
    return found


@pytest.fixture(params=["redis", "rabbitmq"])
def broker_urls(request: pytest.FixtureRequest, redis_url: str) -> list[str]:
    """Of Redis, and with RabbitMQ as the broker of that as well."""
    amqp = [request.getfixturevalue("amqp_url")] if request.param == "rabbitmq" else []
    return [redis_url, *amqp]


@pytest.fixture(scope="session")
def _shared(make_bench: Callable[..., Bench]) -> Iterator[tuple[Bench, Worker]]:
    bench = make_bench(workers={"reports": {"timeout": 600}})
    with bench.worker("--concurrency", "2") as worker:
        yield bench, worker


@pytest.fixture
def shared(_shared: tuple[Bench, Worker]) -> Bench:
    """A bench with a worker on all queues, for the tests that leave both as they found them."""
    bench, worker = _shared
    assert worker.process.poll() is None, worker.log
    bench.use().app.set_default()  # a shared task goes to the default app, which other tests make
    return bench


@pytest.fixture
def shared_worker(shared: Bench, _shared: tuple[Bench, Worker]) -> Worker:
    return _shared[1]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # of a run in several processes, the one above them
        leftovers.watch()
    redis_version.keep()
    if redis.VERSION < (5,):  # it leaves a Unix socket open that nobody answered at
        theirs = r"ignore:unclosed <socket.socket fd=\d+, family=1:ResourceWarning"
        config.addinivalue_line("filterwarnings", theirs)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Of the processes of a run, which all read all files, one compiles a file for the others."""
    if not isinstance(collector, pytest.Module):
        return (yield)
    with collector.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests did not run: a server that is absent, by name."""
    mark = os.environ.get(leftovers.MARK, "")
    if left := [pid for pid in leftovers.marked(mark) if pid != os.getpid()]:
        commands = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]
        terminalreporter.write_line(f"Left behind, and ended now: {commands}", yellow=True)
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).partition("\n")[0] for report in reports)
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} tests did not run. {reason}", yellow=True)
