"""What the doctor says of servers: each is one of the test's own, and really is like that."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from chaos.servers import Redis, Server
from doctored import one, worst
from redis import Redis as Client

from frappe_jobs import runtime
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.doctor.servers import check_redis
from frappe_jobs.ledger.server import look_at
from frappe_jobs.testing import slowness, wait_until
from frappe_jobs.texts.finding import Finding


class RedisLike(Redis):
    """A Redis with settings of its own; ``shell`` comes before its command."""

    def __init__(self, folder: Path, *options: str, shell: str = "") -> None:
        super().__init__(folder)
        self.options, self.shell = options, shell

    def _command(self):
        command, variables = super()._command()
        command = [*command, *self.options]
        if self.shell:
            command = ["sh", "-c", f'{self.shell} exec "$@"', "sh", *command]
        return command, variables

    @property
    def pid(self) -> int:
        return self._process.pid


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Starts a Redis of these settings; gives a client of it, whose ``server`` it is."""
    started: list[tuple[Server, Client]] = []

    def start(*options: str, **how: str) -> Client:
        server = RedisLike(tmp_path / f"redis{len(started)}", *options, **how)
        server.start()
        client = Client.from_url(server.url, decode_responses=True)
        client.server = server
        started.append((server, client))
        return client

    yield start
    for server, client in started:
        client.close()
        server.end()


def seen(client: Client, url: str = "") -> list[Finding]:
    """What is said of it."""
    return check_redis("Redis", look_at(url or client.server.url, "frappe_jobs:test:"))


def acl(client: Client, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", *rules)


def test_one_that_keeps_everything_is_fine(start):
    client = start("--appendfsync", "everysec")
    found = seen(client)
    assert worst(found) == []
    assert one(found, "keeps all on its disk (appendonly yes, appendfsync everysec)")
    assert client.keys("frappe_jobs:test:*") in ([], ["frappe_jobs:test:trial"])


class TestEviction:
    def test_with_a_limit_of_memory_it_is_an_error_and_without_a_warning(self, start):
        client = start("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
        found = one(seen(client), "evicts keys once it holds 100 MiB (maxmemory-policy volatile")
        assert (found.level, "noeviction" in found.cure) == ("error", True)
        client.config_set("maxmemory", 0)
        assert one(seen(client), "would evict keys if it had a maxmemory").level == "warning"
        client.config_set("maxmemory-policy", "noeviction")
        assert worst(seen(client)) == []


class TestMemory:
    def test_it_is_told_how_much_is_used_and_when_it_is_nearly_full(self, start):
        client = start()
        assert "has no limit" in one(seen(client), "of memory").what
        client.setrange("filling", 10_000_000, "x")  # beside which a connection is nothing
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used * 10)
        assert one(seen(client), "that it may (maxmemory)").level == "ok"
        client.config_set("maxmemory", int(used * 1.06))
        assert one(seen(client), "once it is full it accepts no more jobs").level == "warning"

    def test_a_full_one_is_an_error_and_one_is_enough(self, start):
        client = start()
        client.config_set("maxmemory", 1)
        ((level, what),) = worst(seen(client))
        assert (level, what.endswith("it accepts no more jobs.")) == ("error", True)


class TestDisk:
    def test_one_that_keeps_nothing_loses_jobs_at_a_restart(self, start):
        client = start("--appendonly", "no", "--save", "")
        ((level, what),) = worst(seen(client))
        assert (level, "a restart loses jobs" in what) == ("warning", True)
        client.config_set("save", "3600 1")
        assert worst(seen(client)) == []
        assert "a crash loses all since the last" in one(seen(client), "snapshots").what

    def test_one_that_leaves_the_writing_to_the_machine_is_a_warning(self, start):
        client = start("--appendfsync", "no")
        ((level, what),) = worst(seen(client))
        assert (level, "appendfsync no" in what) == ("warning", True)

    def test_a_snapshot_that_failed_is_an_error(self, start):
        client = start("--appendonly", "no", "--save", "3600 1")
        shutil.rmtree(client.server.folder)
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        ((level, what),) = worst(seen(client))
        assert level == "error"
        assert "could not write its last snapshot: it accepts no jobs until it can" in what
        client.config_set("stop-writes-on-bgsave-error", "no")
        assert "a restart loses jobs" in one(seen(client), "its last snapshot").what

    def test_an_append_only_file_that_cannot_grow_is_an_error(self, start):
        client = start("--appendfsync", "everysec", shell="trap '' XFSZ; ulimit -f 64;")
        with pytest.raises(redis.RedisError):
            for number in range(100):
                client.set(f"key{number}", "x" * 10_000)
        ((level, what),) = worst(seen(client))
        assert (level, "cannot write its append-only file" in what) == ("error", True)

    def test_one_that_could_not_be_rewritten_is_a_warning(self, start):
        client = start("--appendfsync", "everysec")
        client.set("key", "value")
        files = client.server.folder / "appendonlydir"
        files.rename(files.with_name("elsewhere"))
        files.touch()
        with pytest.raises(redis.ResponseError):
            client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_last_bgrewrite_status"] == "err")
        ((level, what),) = worst(seen(client))
        assert (level, "could not rewrite" in what) == ("warning", True)


class TestWhoAsks:
    def test_what_may_not_be_asked_is_said(self, start):
        client = start()
        acl(client, "asks", "on", ">pw", "~*", "+@all", "-config")
        found = seen(client, client.server.url.replace("//", "//asks:pw@"))
        assert [level for level, _ in worst(found)] == []
        acl(client, "asks", "-info")
        said = [
            what for _, what in worst(seen(client, client.server.url.replace("//", "//asks:pw@")))
        ]
        assert len(said) == 3
        assert any("does not tell its version" in what for what in said)
        assert any("does not tell whether it evicts keys" in what for what in said)
        assert any("does not tell whether it keeps anything" in what for what in said)

    def test_who_may_not_write_is_told_so(self, start):
        client = start()
        acl(client, "reads", "on", ">pw", "~*", "+@all", "-@scripting")
        ((level, what),) = worst(seen(client, client.server.url.replace("//", "//reads:pw@")))
        assert (level, "refuses what we write" in what, "eval" in what) == ("error", True, True)

    def test_a_user_that_frappe_makes_may_not_touch_our_keys(self, start):
        client = start()
        acl(client, "site", "on", ">pw", "~rq:*", "&rq:*", "+@all", "-@dangerous", "+info")
        found = seen(client, client.server.url.replace("//", "//site:pw@"))
        error = one(found, "refuses what we write")
        assert (error.level, "only rq:*" in error.cure) == ("error", True)

    def test_a_replica_takes_no_jobs(self, start):
        master, replica = start(), start()
        port = master.connection_pool.connection_kwargs["port"]
        replica.replicaof("127.0.0.1", port)
        ((level, what),) = worst(seen(replica))
        assert (level, f"is a replica of 127.0.0.1:{port}" in what) == ("error", True)

    def test_one_that_is_too_old_lacks_a_command(self, start):
        server = look_at(start().server.url, "frappe_jobs:test:")
        old = replace(server, info={**server.info, "redis_version": "4.0.14", "server_name": ""})
        ((level, what),) = worst(check_redis("Redis", old))
        assert (level, what) == (
            "error", "Redis is Redis 4.0.14: it lacks ZPOPMIN, so no job could end as failed.",
        )  # fmt: skip


class TestReach:
    """Of a bench, by its settings."""

    def said(self, bench: Any) -> list[Finding]:
        bench.use()
        return [*Checkup(parts_of(runtime.current())).findings()]

    def test_a_redis_that_is_down_is_said_once_and_the_rest_is_not_looked_at(self, make_bench):
        bench = make_bench(redis_queue="redis://:geheim@127.0.0.1:1/3")
        began = time.monotonic()
        found = self.said(bench)
        assert time.monotonic() - began < 10 * slowness()
        error = one(found, "is out of reach")
        assert "redis://:***@127.0.0.1:1/3" in error.what and "no job can be sent" in error.what
        assert (error.level, error.cure) == ("error", "Start it, or correct redis_queue.")
        assert [level for level, _ in worst(found)].count("error") == 1
        skipped = [what for _, what in worst(found) if "not checked" in what]
        assert len(skipped) == 5
        assert not any("geheim" in finding.what for finding in found)

    def test_what_needs_a_full_one_is_not_looked_at(self, start, make_bench):
        client = start()
        client.config_set("maxmemory", 1)
        found = self.said(make_bench(redis_queue=client.server.url))
        assert [level for level, _ in worst(found)].count("error") == 1
        assert one(found, "it accepts no more jobs").level == "error"
        assert "is away or refuses" in one(found, "Workers and queues were not checked").what

    def test_one_that_is_silent_is_not_waited_for(self, start, make_bench):
        client = start()
        bench = make_bench(redis_queue=client.server.url)
        os.kill(client.server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert one(self.said(bench), "is out of reach").level == "error"
            assert time.monotonic() - began < 10 * slowness()
        finally:
            os.kill(client.server.pid, signal.SIGCONT)

    def test_the_schedules_redis_and_the_results_are_looked_at_by_themselves(self, make_bench):
        bench = make_bench(
            redbeat_redis_url="redis://127.0.0.1:1/4", celery_result_backend="redis://127.0.0.1:1/5"
        )
        found = self.said(bench)
        schedule, results = one(found, "127.0.0.1:1/4"), one(found, "127.0.0.1:1/5")
        assert "no scheduled job is queued" in schedule.what
        assert schedule.cure == "Start it, or correct redbeat_redis_url."
        assert "results are lost" in results.what and "celery_result_backend" in results.cure
        assert one(found, "The scheduler was not checked").level == "warning"
        assert one(found, "No worker is online")

    def test_results_that_go_elsewhere_are_not_looked_at(self, make_bench):
        bench = make_bench(celery_result_backend="db+sqlite:///:memory:")
        assert one(self.said(bench), "results go to db+sqlite").level == "ok"


class TestFrappesCache:
    """``bench build`` empties the cache's server."""

    def said(self, make_bench: Any, cache: object, use_celery: Any = lambda: "on") -> list[Finding]:
        make_bench(redis_cache=cache).use()
        parts = replace(parts_of(runtime.current()), use_celery=use_celery)
        return [*Checkup(parts).servers()]

    def test_one_server_for_both_is_said_by_whatever_address_and_database(
        self, make_bench, redis_url
    ):
        other = re.sub(r"/\d+$", "/3", redis_url.replace("127.0.0.1", "localhost"))
        found = one(self.said(make_bench, other), "redis_cache")
        assert found.level == "warning"
        assert "the messages, records, schedule and results in it are lost then." in found.what

    def test_two_servers_one_that_is_away_none_at_all_and_no_bench_are_fine(
        self, make_bench, redis_url, start
    ):
        for cache in (start().server.url, "redis://127.0.0.1:1", "nonsense", "", 5):
            assert "redis_cache" not in str(self.said(make_bench, cache))
        assert "redis_cache" not in str(self.said(make_bench, redis_url, None))


class TestRabbitMQ:
    def servers(self, bench: Any) -> list[Finding]:
        bench.use()
        return [*Checkup(parts_of(runtime.current())).servers()]

    def test_it_tells_what_it_is(self, make_bench, amqp_url):
        found = self.servers(make_bench(celery_broker_url=amqp_url))
        assert one(found, "RabbitMQ ").level == "ok"
        assert one(found, "for records, schedule and results").level == "ok"

    @pytest.mark.parametrize(
        ("change", "said"),
        [(("5672", "1"), "is out of reach"), (("guest@", "geheim@"), "refuses the login")],
    )
    def test_one_that_is_down_or_refuses_us_is_an_error(self, make_bench, amqp_url, change, said):
        bench = make_bench(celery_broker_url=amqp_url.replace(*change))
        bench.amqp_url = None
        bench.use()
        found = [*Checkup(parts_of(runtime.current())).findings()]
        error = one(found, said)
        assert (error.level, "no job can be sent or run" in error.what) == ("error", True)
        assert "geheim" not in error.what
        assert one(found, "Workers and queues were not checked").level == "warning"
        assert one(found, "No job has failed").level == "ok"
