"""On Redis the sites take turns: who is served next, what is paused, and where messages are."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing

import pytest
import redis
from acme import tasks
from taker import NOW, Taker, message, send, sends

import frappe_jobs as frappe
from frappe_jobs import embedded, errors, runtime
from frappe_jobs.brokers.turns import LOOKS, PORTION
from frappe_jobs.ledger.pauses import Pause
from frappe_jobs.testing import wait_until


class TestTurns:
    def test_a_site_with_few_jobs_does_not_wait_for_one_with_very_many(self, here, taker):
        sends(here, "site1", 300)
        here.broker.file(["default"])
        sends(here, "site2", 3)
        first = taker().names(8)
        assert [name for name in first if name.startswith("site2")] == [
            f"site2 {n}" for n in range(3)
        ]
        assert first.index("site2 0") <= 2  # two sites wait, one worker takes

    def test_each_of_many_sites_has_its_turn_before_any_has_two(self, here, taker):
        for site in range(20):
            sends(here, f"s{site}", 5)
        here.broker.file(["default"])
        found = [name.split()[0] for name in taker().names(60)]
        for start in (0, 20, 40):
            assert len({*found[start : start + 20]}) == 20
        assert here.broker.depth("default") == 40

    def test_a_site_keeps_the_order_of_its_jobs(self, here, taker):
        sends(here, "site1", 70)
        sends(here, "site2", 70)
        found = taker().names(140)
        for site in ("site1", "site2"):
            assert [name for name in found if name.startswith(site)] == [
                f"{site} {n}" for n in range(70)
            ]

    def test_a_site_that_sends_one_job_after_the_other_is_not_ahead_of_one_that_waits(
        self, here, taker
    ):
        sends(here, "zzz", 20)
        take, found = taker(), []
        for _ in range(20):
            send(here, message("aaa"))
            found += [name.split()[0] for name in take.names(1)]
        assert 9 <= Counter(found)["zzz"] <= 11

    def test_a_heavier_site_has_more_turns(self, here, taker):
        here.ledger.set_weights({"site2": 3})
        sends(here, "site1", 100)
        sends(here, "site2", 100)
        here.broker.file(["default"])
        found = Counter(name.split()[0] for name in taker().names(80))
        assert 57 <= found["site2"] <= 63

    def test_the_weights_come_from_the_sites_configuration(self, bench, here):
        bench.write("site2/site_config.json", {"db_type": "sqlite", "frappe_jobs_weight": 2.5})
        bench.write("site1/site_config.json", {"db_type": "sqlite", "frappe_jobs_weight": "x"})
        assert here.settings.sites.weights() == {"site2": 2.5}
        with pytest.raises(errors.ConfigError, match=r"'frappe_jobs_weight' must be a number"):
            here.settings.sites.weight("site1")

    def test_at_front_jobs_go_before_their_sites_others_and_earlier_queues_first(self, here, taker):
        sends(here, "site1", 3)
        send(here, message(name="front 1", at_front=True), message(name="front 2", at_front=True))
        send(here, message(name="short", queue="short"))
        assert taker("short", "default").names(6) == [
            "front 1", "front 2", "short", "site1 0", "site1 1", "site1 2",
        ]  # fmt: skip

    def test_a_flood_at_the_front_leaves_the_other_sites_their_turns(self, here, taker):
        sends(here, "site1", 100, at_front=True)
        sends(here, "site2", 10)
        sends(here, "site3", 10, at_front=True)
        here.broker.file(["default"])
        found = Counter(name.split()[0] for name in taker().names(36))
        assert found["site2"] >= 8 and found["site3"] >= 10

    def test_first_in_first_out_where_that_is_wanted(self, here, taker):
        sends(here, "site1", 40)
        sends(here, "site2", 2)
        assert taker(is_fair=False).names(42)[-2:] == ["site2 0", "site2 1"]

    def test_only_a_queue_that_guests_serve_has_no_turns(self, here, taker):
        for queue in ("short", "default"):
            for site in ["site1"] * 5 + ["site2"]:
                send(here, message(site, name=f"{queue} {site}", queue=queue))
        names = taker("short", "default", guests=["short"]).names(12)
        short, default = ([one for one in names if queue in one] for queue in ("short", "default"))
        assert short[-1] == "short site2"
        assert default.index("default site2") < 3

    def test_what_was_filed_before_is_not_forgotten_then(self, here, taker):
        sends(here, "site1", 40)
        here.broker.file(["default"])
        sends(here, "site2", 2)
        assert {*taker(is_fair=False).names(42)} == {
            *(f"site1 {n}" for n in range(40)), "site2 0", "site2 1",
        }  # fmt: skip

    @pytest.mark.parametrize("site", ["größe.example", 'a"b\\c', "x:turn:y", "s" * 200])
    def test_a_sites_name_may_be_any_text(self, here, taker, site):
        waiting = [message(site) for _ in range(3)]
        send(here, *waiting)
        here.broker.file(["default"])
        assert here.broker.lost(waiting) == []
        assert here.broker.discard(waiting[:1]) == {waiting[0].id}
        here.ledger.pause([Pause(None, site)])
        assert taker().take(1) is None
        assert here.ledger.pauses()[0].site == site
        here.ledger.end_pauses([Pause("default", site), Pause(None, site)])
        here.broker.pause_ended(["default"])
        assert taker().names(2) == [site, site]

    def test_no_step_looks_at_more_than_a_few_however_many_wait(self, here, taker):
        for site in range(200):
            sends(here, f"s{site}", 20)
        here.ledger.pause([Pause(None, f"s{site}") for site in range(199)])
        take, server = taker(), here.ledger.redis
        server.config_resetstat()
        assert take.names(1) == ["s199 0"]
        stats = server.info("commandstats")
        assert stats["cmdstat_rpop"]["calls"] <= 4 * (stats["cmdstat_evalsha"]["calls"] + 1) * (
            LOOKS / PORTION
        )


class TestHeld:
    def test_a_message_is_held_from_the_step_that_takes_it(self, here, taker):
        """A worker that dies at any moment has lost nothing: kombu's pop had."""
        send(here, message(name="one"))
        take = taker()
        take.connection.drain_events(timeout=NOW)
        held = here.ledger.redis.hgetall(f"{here.settings.prefix}unacked")
        ((tag, raw),) = held.items()
        assert json.loads(raw)[0]["headers"]["frappe_jobs"]["name"] == "one"
        assert json.loads(raw)[1:] == ["", here.broker.queue_name("default")]
        assert here.ledger.redis.zscore(f"{here.settings.prefix}unacked_index", tag)
        assert here.broker.depth("default") == 0

    def test_what_was_put_back_goes_before_its_sites_others(self, here, taker):
        sends(here, "site1", 3)
        here.broker.file(["default"])
        first = taker()
        assert first.take().headers["frappe_jobs"]["name"] == "site1 0"
        first.channel.qos.restore_unacked_once()
        assert taker().names(3) == ["site1 0", "site1 1", "site1 2"]

    def test_what_comes_to_a_worker_that_has_stopped_taking_is_put_back_at_once(self, here, taker):
        take = taker()
        assert take.take(0.2) is None
        take.consumer.cancel()
        sends(here, "site1", 2)
        take.close()
        assert take.got == []
        assert here.ledger.redis.hgetall(f"{here.settings.prefix}unacked") == {}
        assert taker().names(2) == ["site1 0", "site1 1"]

    def test_the_count_of_what_is_filed_is_exact(self, here, taker):
        """A burst that believed a wrong one would leave jobs behind."""
        waiting = [message(f"s{n % 5}", at_front=n % 3 == 0) for n in range(100)]
        send(here, *waiting)
        take = taker()
        here.broker.file(["default"])
        for start in range(0, 60, 20):
            here.broker.discard(waiting[start : start + 10])
            take.names(5)
            base, server = here.broker.queue_name("default"), here.ledger.redis
            lists = [*server.scan_iter(f"{base}:turn:*", 999), *server.scan_iter(f"{base}:f*:*", 9)]
            filed = sum(server.llen(one) for one in lists if server.type(one) == "list")
            assert int(server.get(f"{base}:filed") or 0) == filed > 0
        here.broker.discard(waiting)
        assert here.broker.depth("default") == 0
        assert take.take(0.2) is None
        assert not server.exists(f"{base}:filed")

    def test_a_site_whose_turns_were_lost_is_served_again(self, here, taker):
        """As after an eviction: the sweep, which finds that its messages are not lost, sees it."""
        waiting = [message("site1"), message("site1", at_front=True)]
        send(here, *waiting)
        here.broker.file(["default"])
        base = here.broker.queue_name("default")
        here.ledger.redis.delete(f"{base}:turns", f"{base}:ahead")
        take = taker()
        assert take.take(0.2) is None
        assert here.broker.lost(waiting) == []
        assert take.names(2) == ["site1", "site1"]

    def test_a_pause_whose_end_was_cut_off_is_over_all_the_same(self, here, taker):
        for n in range(120):
            sends(here, f"s{n}", 1)
        here.ledger.pause([Pause(None, f"s{n}") for n in range(120)])
        take = taker()
        assert take.take(1) is None
        here.broker.file(["default"])
        here.ledger.end_pauses([Pause(None, "s77")])  # and nobody wakes it

        def is_awake():
            here.broker.file(["default"])  # as each worker does each second
            return here.ledger.redis.zscore(f"{here.broker.queue_name('default')}:turns", "s77")

        wait_until(is_awake, 60)
        assert take.names(1) == ["s77 0"]

    def test_what_was_acknowledged_last_is_gone_when_the_worker_ends(self, here, taker):
        send(here, message())
        take = taker()
        take.names(1)
        take.close()
        assert here.ledger.redis.hgetall(f"{here.settings.prefix}unacked") == {}
        assert here.broker.depth("default") == 0

    def test_the_place_of_each_message_is_known(self, here, taker):
        waiting = [message("site1"), message("site2"), message("site1", at_front=True)]
        gone = message("site2")
        send(here, *waiting)
        here.broker.file(["default"])
        late = message("site2")
        send(here, late)
        assert here.broker.depth("default") == 4
        assert here.broker.lost([*waiting, late, gone]) == [gone]
        assert here.broker.discard([waiting[1], late, gone]) == {waiting[1].id, late.id}
        assert here.broker.depth("default") == 2
        assert taker().names(2) == ["site1", "site1"]
        assert taker().take(0.2) is None

    def test_nothing_is_left_of_a_queue_that_is_forgotten(self, bench, here):
        sends(here, "site1", 30)
        sends(here, "site2", 3, at_front=True)
        here.broker.file(["default"])
        sends(here, "site2", 3)
        here.ledger.pause([Pause(None, "site1")])
        here.broker.forget()
        with redis.Redis.from_url(bench.redis_url) as server:
            assert [*server.scan_iter(f"{bench.id}:*", count=5000)] == []

    def test_nothing_is_left_of_turns_that_are_over(self, bench, here, taker):
        sends(here, "site1", 30)
        sends(here, "site2", 3, at_front=True)
        take = taker()
        take.names(33)
        assert take.take(0.2) is None
        with redis.Redis.from_url(bench.redis_url) as server:
            assert [*server.scan_iter(f"{bench.id}:*", count=5000)] == []

    def test_all_that_is_filed_can_be_put_back_for_kombu(self, here, taker):
        sends(here, "site1", 120)
        sends(here, "site2", 3, at_front=True)
        here.broker.file(["default"])
        here.ledger.pause([Pause(None, "site1")])
        assert taker().names(1) == ["site2 0"]
        assert here.broker.file_back() == 122
        base = here.broker.queue_name("default")
        assert here.ledger.redis.llen(base) == 2
        assert here.ledger.redis.llen(base + "\x06\x166") == 120
        assert here.broker.depth("default") == 122
        last = json.loads(here.ledger.redis.lindex(base + "\x06\x166", -1))
        assert last["headers"]["frappe_jobs"]["name"] == "site1 0"  # the next that kombu takes

    def test_what_is_no_message_is_kept_aside(self, here, taker):
        take = taker()
        here.ledger.redis.rpush(here.broker.queue_name("default"), "{", "[1]", b"\xff\xfe")
        send(here, message())
        assert take.names(1) == ["site1"]
        assert take.take(0.5) is None
        assert len(take.kept) == 3
        take.close()
        assert here.ledger.redis.hgetall(f"{here.settings.prefix}unacked") == {}

    def test_a_script_that_the_server_has_forgotten_is_loaded_again(self, make_bench, server):
        here = make_bench(redis_queue=embedded.running(server)).use()
        sends(here, "site1", 2)
        with closing(Taker(here, "default")) as take:
            assert take.names(1) == ["site1 0"]
            here.ledger.redis.script_flush()
            assert take.names(1) == ["site1 1"]


class TestBell:
    def test_who_waits_is_rung_for(self, here, taker):
        take, waited = taker(), []
        assert take.take(0.2) is None
        for _ in range(20):
            started = time.monotonic()
            send(here, message())
            assert take.names(1) == ["site1"]
            waited.append(time.monotonic() - started)
        assert sorted(waited)[10] < 0.2

    def test_who_pushes_without_ringing_is_found_soon(self, here, taker):
        take = taker()
        assert take.take(0.2) is None
        raw = here.broker._raw(message())
        here.ledger.redis.lpush(here.broker.queue_name("default"), raw)
        assert take.names(1) == ["site1"]

    def test_one_of_many_wakes_the_next(self, here, taker):
        takers = [taker() for _ in range(4)]
        assert [one.take(0.1) for one in takers] == [None] * 4
        with here.ledger.redis.pipeline() as pipe:
            for _ in range(4):
                pipe.lpush(here.broker.queue_name("default"), here.broker._raw(message()))
            pipe.execute()
        assert all(one.take() for one in takers)


class TestPauses:
    def test_nobody_takes_from_a_paused_queue(self, here, taker):
        sends(here, "site1", 2)
        sends(here, "site1", 1, queue="short")
        assert here.ledger.pause([Pause("default", None)] * 2) == [True, False]
        take = taker("default", "short")
        assert take.names(1) == ["site1 0"]
        assert take.take(0.2) is None
        assert here.broker.held_back("default", is_paused=True) == 2
        assert here.ledger.end_pauses([Pause("default", None)]) == [True]
        here.broker.pause_ended(["default"])
        assert take.names(2) == ["site1 0", "site1 1"]

    @pytest.mark.parametrize("pause", [Pause("default", "site1"), Pause(None, "site1")])
    def test_a_site_that_is_paused_blocks_nobody_and_loses_no_order(self, here, taker, pause):
        sends(here, "site1", 60)
        here.ledger.pause([pause])
        sends(here, "site2", 2)
        take = taker()
        assert take.names(2) == ["site2 0", "site2 1"]
        assert take.take(0.2) is None
        assert here.broker.held_back("default", is_paused=False) == 60
        assert here.broker.depth("default") == 60
        sends(here, "site1", 1, at_front=True)
        here.ledger.end_pauses([pause])
        here.broker.pause_ended(["default"])
        assert take.names(3) == ["site1 0", "site1 0", "site1 1"]

    def test_a_pause_is_in_force_at_once_and_outlives_workers(self, on_each_broker):
        bench = on_each_broker
        with bench.worker():
            frappe.enqueue(tasks.ping, "default").wait(NOW)
            assert bench.run("queues", "pause", "default").returncode == 0
            if bench.amqp_url:  # its worker hears of it within a second or two
                wait_until(lambda: is_not_consumed(bench), NOW)
            job = frappe.enqueue(tasks.ping, "default")
            assert frappe.enqueue(tasks.ping, "short").wait(NOW) == "pong"
            assert job.get_status() == "queued"
        with bench.worker():
            assert frappe.enqueue(tasks.ping, "short").wait(NOW) == "pong"
            assert job.get_status() == "queued"
            said = bench.run("queues", "resume", "default")
            assert "default: goes on." in said.stdout
            assert job.wait(NOW) == "pong"

    def test_a_burst_ends_when_only_paused_jobs_are_left(self, on_redis):
        jobs = [frappe.enqueue(tasks.ping, queue) for queue in ("short", "long", "default")]
        on_redis.run("queues", "pause", "long")
        on_redis.run("--site", "site1", "queues", "pause", "short")
        done = on_redis.run("worker", "--burst")
        assert done.returncode == 0
        assert "2 jobs are left, which are paused" in done.stderr
        assert [job.get_status() for job in jobs] == ["queued", "queued", "finished"]

    def test_the_commands_say_what_is_paused(self, on_redis):
        assert on_redis.run("queues", "pause").returncode == 2
        said = on_redis.run("queues", "pause", "long,short").stdout
        assert said == "long: is paused.\nshort: is paused.\n"
        on_redis.run("--site", "site2", "queues", "pause", "default")
        rows = json.loads(on_redis.run("queues", "--format", "json").stdout)
        assert {row["name"]: row["paused"] for row in rows} == {
            "short": "all", "default": "site2", "long": "all"
        }  # fmt: skip
        said = on_redis.run("queues", "resume", "default").stdout
        assert said == "default: was not paused.\nsite2 in default is still paused.\n"
        doctor = on_redis.run("doctor").stdout
        assert "site2 in default has been paused for" in doctor

    @pytest.mark.parametrize(
        ("config", "why"),
        [
            ({"frappe_jobs_transport": "celery"}, "'frappe_jobs_transport' is 'celery'"),
            ({"frappe_jobs_order": "fifo"}, "'frappe_jobs_order' is 'fifo'"),
        ],
    )
    def test_what_cannot_be_paused_is_refused(self, make_bench, config, why):
        bench = make_bench(**config)
        said = bench.run("--site", "site1", "queues", "pause", "long")
        assert (said.returncode, why in said.stderr) == (1, True)


def is_not_consumed(bench):
    here = runtime.current()
    with here.broker._channel() as channel:
        found = channel.queue_declare(here.broker.queue_name("default"), passive=True)
    return found.consumer_count == 0


class TestTransport:
    @pytest.mark.parametrize("transport", ["celery", "frappe_jobs"])
    def test_workers_of_both_kinds_run_the_same_jobs(self, make_bench, transport):
        bench = make_bench(frappe_jobs_transport=transport)
        bench.use()
        with frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.add, x=n, at_front=n % 3 == 0) for n in range(12)]
            done = bench.run("worker", "--burst")
            assert done.returncode == 0, done.stderr
            assert [job.wait(NOW) for job in jobs] == [*range(12)]

    def test_what_is_filed_runs_on_kombus_transport_once_it_is_put_back(self, make_bench):
        bench = make_bench()
        bench.use()
        with frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.add, x=n) for n in range(6)]
        runtime.current().broker.file(["default"])
        said = bench.run("queues", "file-back").stdout
        assert said.startswith("6 messages were put back, ")
        bench.write("common_site_config.json", bench.config | {"frappe_jobs_transport": "celery"})
        assert bench.run("worker", "--burst").returncode == 0
        assert [job.wait(NOW) for job in jobs] == [*range(6)]

    def test_what_waits_for_its_time_does_so_in_celerys_own_way_afterwards(self, on_each_broker):
        """An older version knows no other; nobody who is killed meanwhile loses a job."""
        bench, here = on_each_broker, runtime.current()
        with bench.worker():
            failed = frappe.enqueue(tasks.fail, retry=frappe.Retry(1, 300))
            wait_until(lambda: failed.get_status() == "queued" and failed.attempts, NOW)
        soon = frappe.enqueue_in(8, tasks.ping)
        late = frappe.enqueue_in(3600, tasks.ping, "long")
        due = soon.due
        said = bench.run("queues", "file-back").stdout
        assert said == "0 messages were put back, and 3 sent that wait for their time.\n"
        assert here.ledger.count_delayed(here.settings.queues) == (0, 0, 0)
        assert [here.broker.depth(queue) for queue in ("default", "long")] == [2, 1]
        with bench.worker("--concurrency", "2"):
            assert soon.wait(60) == "pong"
            ended = here.ledger.read(soon.message_id)
            assert ended.started_at >= due - 0.1
            assert [job.get_status() for job in (failed, late)] == ["queued", "queued"]
        assert here.ledger.count_delayed(here.settings.queues) == (0, 0, 0)
