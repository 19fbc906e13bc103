"""A Redis that answers and refuses: nothing ends of it, it is said once, and work goes on.

One worker, one scheduler and one Redis of the file's own see one refusal after another; each is the
server's own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from acme import tasks
from chaos.servers import Redis
from ports import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.celery.beat import LOOK
from frappe_jobs.testing import wait_until

pytestmark = pytest.mark.timeout(300)

#: Seconds at most until work goes on after the refusal's end; a busy machine is slower.
WANTED = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server) -> Iterator[redis.Redis]:
    """Somebody who may do everything, whatever becomes of the others."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
    with redis.Redis.from_url(server.url, username="admin", password="admin") as client:
        yield client


@pytest.fixture(scope="module")
def bench(make_bench, server, admin):
    admin.execute_command("ACL", "SETUSER", "bench", "on", ">first", "~*", "&*", "+@all")
    url = server.url.replace("//", "//bench:first@")
    return make_bench(redis_queue=url, frappe_jobs_lease=6)


@pytest.fixture(scope="module")
def worker(bench):
    with bench.worker("--queue", "default") as worker:
        yield worker


@pytest.fixture(scope="module")
def scheduled(make_bench, bench):
    """Another bench there, one of whose jobs is due every other second."""
    scheduled = make_bench(redis_queue=bench.config["redis_queue"], frappe_jobs_scheduler_lock=2)
    events = {"cron": {"* * * * * */2": ["acme.tasks.ping"]}}
    (scheduled.path / "acme" / "hooks.py").write_text(f"scheduler_events = {events!r}\n")
    assert scheduled.run("--site", "site1", "migrate").returncode == 0
    return scheduled


@pytest.fixture(scope="module")
def scheduler(scheduled):
    with scheduled.process("schedule") as scheduler:
        scheduler.wait_ready()
        yield scheduler


def disconnect(admin: redis.Redis) -> None:
    admin.client_kill_filter(user="bench")


@contextmanager
def a_replica(admin):
    """Failed over: another one is the master, and this one follows it."""
    admin.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        admin.replicaof("NO", "ONE")


@contextmanager
def a_replica_without_its_master(admin):
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        admin.replicaof("NO", "ONE")
        admin.config_set("replica-serve-stale-data", "yes")


@contextmanager
def full(admin):
    admin.config_set("maxmemory", 1)
    try:
        yield
    finally:
        admin.config_set("maxmemory", 0)


@contextmanager
def without_replicas(admin):
    admin.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def without_a_disk(admin):
    """Its snapshots cannot be written; here as something else is in their place."""
    in_the_way = Path(admin.config_get("dir")["dir"]) / admin.config_get("dbfilename")["dbfilename"]
    in_the_way.mkdir()
    before = admin.config_get("save")["save"]
    admin.config_set("save", "3600 1")
    save(admin, "err")
    try:
        yield
    finally:
        in_the_way.rmdir()
        save(admin, "ok")
        admin.config_set("save", before)


def save(admin: redis.Redis, status: str) -> None:
    """Have it write a snapshot, with that outcome."""
    wait_until(lambda: not admin.info("persistence")["aof_rewrite_in_progress"], WANTED)
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == status, WANTED)


@contextmanager
def with_another_password(admin):
    admin.execute_command("ACL", "SETUSER", "bench", "resetpass", ">second")
    disconnect(admin)
    try:
        yield
    finally:
        admin.execute_command("ACL", "SETUSER", "bench", ">first")


@contextmanager
def with_fewer_permissions(admin):
    admin.execute_command("ACL", "SETUSER", "bench", "-@write", "-@scripting")
    try:
        yield
    finally:
        admin.execute_command("ACL", "SETUSER", "bench", "+@all")


@contextmanager
def busy(admin):
    """With somebody's script that does not end."""

    def loop() -> None:
        with suppress(redis.RedisError), admin.client() as client:
            client.eval("while true do end", 0)

    before = admin.config_get("lua-time-limit")["lua-time-limit"]
    admin.config_set("lua-time-limit", 50)
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        wait_until(lambda: is_free(admin), WANTED)
        thread.join(WANTED)
        admin.config_set("lua-time-limit", before)


def is_free(admin: redis.Redis) -> bool:
    """Once the script is killed."""
    try:
        admin.script_kill()
    except redis.ResponseError as error:
        return "NOTBUSY" in str(error)
    except redis.RedisError:  # it does not hear before the time limit is over
        pass
    return False


STATES = {
    "READONLY, UNBLOCKED": a_replica,
    "MASTERDOWN": a_replica_without_its_master,
    "OOM": full,
    "NOREPLICAS": without_replicas,
    "MISCONF": without_a_disk,
    "WRONGPASS": with_another_password,
    "NOPERM": with_fewer_permissions,
    "BUSY": busy,
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_worker_waits_and_goes_on(bench, worker, admin, state: Callable[..., Any]):
    bench.use()
    before = len(worker.lines)
    with state(admin):
        wait_until(lambda: is_told(worker, before) or state is full, WANTED)
        for command in (["queues"], ["jobs", "list", "--site", "site1"]):
            assert_one_line(bench.run(*command))
        assert_one_line(bench.run("--site", "site1", "enqueue", "acme.tasks.ping"), fails=True)
    with frappe.site("site1"):
        job = wait_until(enqueued, WANTED)
        assert job.wait(WANTED) == "pong"
    assert worker.process.poll() is None
    assert "Traceback" not in "\n".join(worker.lines[before:]), worker.log
    assert said(worker, before) <= 2, worker.log


class Slow(Redis):
    """Reads its file key by key, in seconds, and answers meanwhile that it does."""

    def _command(self) -> tuple[list[str], Any]:
        command, variables = super()._command()
        slowly = ("--key-load-delay", "600")  # microseconds
        return [*command, *slowly], variables


def test_one_that_reads_its_file_is_waited_for(make_bench, tmp_path):
    never = Retry(NoBackoff(), 0)
    with Slow(tmp_path / "slow") as server, redis.Redis.from_url(server.url, retry=never) as client:
        bench = make_bench(redis_queue=server.url)
        bench.use()
        with client.pipeline() as pipe:
            for n in range(8_000):
                pipe.set(f"other{n}", "x" * 100)
            pipe.execute()
        with bench.worker("--queue", "default") as worker:
            before = len(worker.lines)
            server.end(signal.SIGTERM)
            starting = threading.Thread(target=server.start)
            starting.start()
            wait_until(lambda: is_loading(client), WANTED)
            assert_one_line(bench.run("queues"))
            starting.join(WANTED)
            with frappe.site("site1"):
                assert wait_until(enqueued, WANTED).wait(WANTED) == "pong"
            assert worker.process.poll() is None
            assert "Traceback" not in "\n".join(worker.lines[before:]), worker.log
            assert said(worker, before) <= 3, worker.log  # it is gone, refuses, and loads


def is_loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:  # not yet, or not any more
        pass
    return False


def said(worker, since: int) -> int:
    return sum("is away or refuses" in line for line in worker.lines[since:])


def is_told(worker, since: int) -> bool:
    """Of a busy Redis nobody hears anything who waits for a message."""
    return said(worker, since) or "are not sent" in "\n".join(worker.lines[since:])


def enqueued():
    """A job, once that can be."""
    try:
        return frappe.enqueue(tasks.ping)
    except frappe.errors.BrokerUnavailable:
        return None


def assert_one_line(done, *, fails: bool = False) -> None:
    """It is done, or says in one line that the server does not let it."""
    if done.returncode == 0 and not fails:
        return
    assert done.returncode == 69, done
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    assert runtime.current().settings.bench_id not in done.stdout


@pytest.mark.parametrize("state", ["READONLY, UNBLOCKED", "OOM", "NOPERM"])
def test_a_scheduler_says_so_once_and_goes_on(scheduled, scheduler, admin, state):
    told = "nothing can be queued"
    before = len(scheduler.lines)
    due = next_due(admin, scheduled)
    wait_until(lambda: next_due(admin, scheduled) > due, WANTED)
    with STATES[state](admin):
        wait_until(lambda: told in "\n".join(scheduler.lines[before:]), WANTED)
        threading.Event().wait(2.5 * LOOK)  # it looks some more times
        due = next_due(admin, scheduled)
    wait_until(lambda: next_due(admin, scheduled) > due, WANTED)
    lines = scheduler.lines[before:]
    assert scheduler.process.poll() is None
    assert "Traceback" not in "\n".join(lines), scheduler.log
    assert sum(told in line for line in lines) == 1, scheduler.log


def next_due(admin, bench) -> float:
    """When its job is due next, as the scheduler has moved it on."""
    (key,) = admin.scan_iter(f"*{bench.id}*redbeat::schedule", count=1000)
    ((_, at),) = admin.zrange(key, 0, -1, withscores=True)
    return float(at)


#: For how many seconds, and with which lease: one that is full lets leases be renewed.
ENDS = {"READONLY": (a_replica, 0, 60), "OOM": (full, 8, 6)}


@pytest.mark.parametrize(("state", "seconds", "lease"), ENDS.values(), ids=ENDS)
def test_an_end_that_it_refuses_is_written_later(
    make_bench, bench, admin, tmp_path, state, seconds, lease
):
    """By the process that ran the job, and by the parent of one that had to be killed."""
    bench = make_bench(
        redis_queue=bench.config["redis_queue"], frappe_jobs_timeout_grace=1,
        frappe_jobs_lease=lease,
    )  # fmt: skip
    bench.use()
    until = tmp_path / "until"
    callbacks = {"on_success": tasks.on_success, "on_failure": tasks.on_failure}
    with bench.worker("--queue", "default", "--concurrency", "2") as worker:
        with frappe.site("site1"):
            held = frappe.enqueue(tasks.hold, until=str(until), **callbacks)
            stuck = frappe.enqueue(tasks.sleep_on, seconds=600, timeout=5, **callbacks)
            wait_until(lambda: {held.get_status(), stuck.get_status()} == {"started"}, WANTED)
            with state(admin):
                threading.Event().wait(seconds)
                until.touch()
                wait_until(lambda: worker.log.count("cannot be written yet") >= 2, WANTED)
                assert {held.get_status(), stuck.get_status()} == {"started"}
            assert held.wait(WANTED) is None
            wait_until(lambda: stuck.get_status() == "failed", WANTED)
            assert stuck.reason == "timed out after 5 s and was killed"
            assert (held.attempt, stuck.attempt) == (1, 1)
            wait_until(lambda: len(marks(bench)) == 2, WANTED)
        assert worker.process.poll() is None
    assert sorted(marks(bench)) == ["on_failure", "on_success"]


def marks(bench) -> list[str]:
    """The callbacks that were made."""
    return [what for what in ("on_success", "on_failure") for _ in bench.marks(what)]
