"""Alerts: once for each incident and once when it is over, to servers that take them, or not."""

from __future__ import annotations

import json
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from recorded import begun, message, recorded

from frappe_jobs import embedded, runtime
from frappe_jobs.alerts import incidents, targets
from frappe_jobs.alerts.watching import Watch
from frappe_jobs.doctor.configuration import check_alerts, check_configuration
from frappe_jobs.errors import ConfigError
from frappe_jobs.ledger.record import FAILED, FINISHED
from frappe_jobs.ledger.reports import Report, Reports
from frappe_jobs.message import Sending
from frappe_jobs.rows.findings import parts_of
from frappe_jobs.testing import wait_until


class Webhook:
    """A server that takes alerts, or answers with what ``status`` says."""

    def __init__(self):
        self.status, self.heard, self.may_answer = 200, [], threading.Event()
        #: Each request's key; and processes that are killed when they have said something.
        self.keys, self.killed = [], []
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.may_answer.wait(30)
                if outer.status == 200:
                    outer.heard.append(body)
                    outer.keys.append(self.headers["Idempotency-Key"])
                while outer.killed:
                    outer.killed.pop().kill()
                self.send_response(outer.status)
                self.send_header("Location", outer.url)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def said(self):
        return [(one["what"], one["text"]) for one in self.heard]


@pytest.fixture
def webhook():
    webhook = Webhook()
    yield webhook
    webhook.may_answer.set()
    webhook.server.shutdown()
    webhook.server.server_close()


@pytest.fixture
def here(make_bench, webhook):
    make_bench(frappe_jobs_alerts={"webhook": webhook.url, "failures_in_a_row": 3}).use()
    here = runtime.current()
    Reports(here.ledger).tell(Report("worker@here", ["short", "default", "long"], 1, None))
    return here


def process(here, **options):
    return Watch(here, **{"is_scheduler": False, "hold": 0} | options)


def look(*processes):
    """Each of them looks, as if its turn had come."""
    for one in processes:
        ledger = one._here.ledger
        ledger.redis.delete(ledger._key("turn", "alerts"), ledger._key("turn", "alerts:scheduler"))
        one.look()


def fail(ledger, times, method="acme.tasks.fail"):
    for _ in range(times):
        ledger.end(begun(ledger, method=method), FAILED)


class TestIncidents:
    def test_it_is_said_once_and_once_when_it_is_over_whoever_looks(self, here, webhook):
        one, other = process(here), process(here)
        fail(here.ledger, 3)
        look(one, one, other)
        fail(here.ledger, 1)
        look(other, process(here))  # one that has just taken over
        here.ledger.end(begun(here.ledger, method="acme.tasks.fail"), FINISHED)
        look(other, one, process(here))
        (begins, text), (over, end) = webhook.said
        assert (begins, over) == ("begins", "over")
        assert "acme.tasks.fail has failed 3 times in a row" in text and end == f"Over: {text}"
        assert len({one["incident"] for one in webhook.heard}) == 1

    def test_what_is_wrong_for_a_moment_is_no_incident(self, here, webhook):
        fail(here.ledger, 3)
        one = process(here, hold=3600)
        look(one)
        here.ledger.end(begun(here.ledger, method="acme.tasks.fail"), FINISHED)
        look(one, one)
        assert webhook.said == []

    def test_a_success_in_between_begins_anew(self, here, webhook):
        for _ in range(2):
            fail(here.ledger, 2)
            here.ledger.end(begun(here.ledger, method="acme.tasks.fail"), FINISHED)
        fail(here.ledger, 2)
        look(process(here))
        assert webhook.said == []

    def test_a_queue_with_jobs_and_no_worker(self, here, webhook):
        ledger = here.ledger
        ledger.redis.delete(ledger._key("workers", "seen"))
        recorded(ledger, queue="long")
        look(process(here))
        Reports(ledger).tell(Report("worker@here", ["long"], 1, None))
        look(process(here))
        assert [what for what, _ in webhook.said] == ["begins", "over"]
        assert "'long' has jobs (1) and no worker" in webhook.said[0][1]

    def test_an_oldest_job_that_waits_longer_than_its_queues_timeout(self, here, webhook):
        young, old = (message(enqueued_at=time.time() - age) for age in (200, 400))
        here.ledger.record([Sending(young)])
        look(process(here))
        assert webhook.said == []
        here.ledger.record([Sending(old)])
        look(process(here))
        ((what, text),) = webhook.said
        assert what == "begins" and "'default'" in text and "for 0:06:" in text

    def test_that_no_scheduler_looks_is_said_by_workers(self, here, webhook):
        table = here.timetable
        table.redis.zadd(table.schedule_key, {"an entry": time.time() + 3600})
        table.redis.hset(
            table.seen_key, mapping={"at": time.time() - 900, "clock": 0, "token": "gone"}
        )
        look(process(here, is_scheduler=True))
        assert webhook.said == []
        look(process(here))
        assert [what for what, _ in webhook.said] == ["begins"]
        table.redis.hset(table.seen_key, "at", time.time())
        look(process(here))
        assert [what for what, _ in webhook.said] == ["begins", "over"]

    def test_a_scheduler_looks_while_no_worker_does(self, here, webhook):
        fail(here.ledger, 3)
        look(process(here, is_scheduler=True))
        assert [what for what, _ in webhook.said] == ["begins"]

    def test_hostile_names_are_said_as_they_are(self, here, webhook):
        for name in ('a"b\\', "x:y\n", "{}", "\x00"):
            fail(here.ledger, 3, method=name)
        look(process(here), process(here))
        assert len(webhook.said) == 4


def looking(here, webhook):
    """A process that looks, and is killed between the webhook's taking an alert and its answer."""
    code = (
        "from frappe_jobs import runtime; from frappe_jobs.alerts.watching import Watch; "
        "input(); Watch(runtime.current(), is_scheduler=False, hold=0).look()"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    webhook.killed.append(started)
    started.communicate("go\n", timeout=60)
    assert started.returncode == -signal.SIGKILL


class TestATakeover:
    """Whoever is killed: each alert is said, and who hears it twice can tell."""

    def test_of_one_that_was_killed_before_it_noted_what_it_had_said(
        self, here, webhook, monkeypatch
    ):
        monkeypatch.setattr(incidents, "LEASE", 1)
        fail(here.ledger, 3)
        looking(here, webhook)
        assert len(webhook.heard) == 1
        assert here.ledger.redis.hlen(here.ledger._key("alerts", "notices")) == 1
        here.ledger.redis.delete(*lease_of(here))  # it has 60 s in a process of its own
        look(process(here), process(here))
        here.ledger.end(begun(here.ledger, method="acme.tasks.fail"), FINISHED)
        look(process(here), process(here))
        assert [what for what, _ in webhook.said] == ["begins", "begins", "over"]
        first, again, over = webhook.keys
        assert first == again != over
        assert first == f"{webhook.heard[0]['incident']}.begins"

    def test_of_one_that_said_that_redis_is_away(self, make_bench, server, webhook):
        bench = bench_of(make_bench, server, webhook)
        here = bench.use()
        embedded.stop(server)
        looking(here, webhook)
        look_away(process(here), process(here))
        embedded.start(server)
        look(process(here), process(here))
        assert [what for what, _ in webhook.said] == ["begins", "begins", "over"]
        first, again, over = webhook.keys
        assert first == again != over

    def test_a_methods_job_is_sent_once_also_when_it_has_run_meanwhile(self, make_bench):
        bench = make_bench(frappe_jobs_alerts={"method": "acme.tasks.echo", "site": "site2"})
        here = bench.use()
        deliver = targets.targets_of(here)["method"]
        notice = targets.Notice("a1", "fails:x", "begins", "x", time.time())
        deliver(notice)
        (record,) = here.ledger.records("site2")
        here.ledger.start(record.message, "a process")
        here.ledger.end(record.message, FINISHED)
        deliver(notice)
        assert [one.status for one in here.ledger.records("site2")] == [FINISHED]
        assert here.broker.depth("default") == 1


class TestTargets:
    def test_a_webhook_that_refuses_gets_it_later_and_once(self, here, webhook, monkeypatch):
        monkeypatch.setattr(incidents, "LEASE", 1)
        fail(here.ledger, 3)
        for webhook.status in (500, 302):
            look(process(here))
            assert webhook.said == []
            wait_until(lambda: not lease_of(here), 20)
        webhook.status = 200
        look(process(here), process(here))
        assert [what for what, _ in webhook.said] == ["begins"]

    def test_a_process_that_is_gone_before_it_has_said_it_leaves_it_to_another(
        self, here, webhook, monkeypatch
    ):
        monkeypatch.setattr(incidents, "LEASE", 1)
        fail(here.ledger, 3)
        one = process(here)
        webhook.status = 500
        look(one)
        wait_until(lambda: not lease_of(here), 20)
        taken = one._incidents.unsaid()
        next(taken)  # and it is killed
        webhook.status = 200
        look(process(here))
        assert webhook.said == []
        wait_until(lambda: not lease_of(here), 20)
        look(process(here))
        assert [what for what, _ in webhook.said] == ["begins"]

    def test_one_that_hangs_is_left_alone(self, here, webhook, monkeypatch):
        monkeypatch.setattr(targets, "IN_ALL", 0.5)
        webhook.may_answer.clear()
        fail(here.ledger, 3)
        began = time.monotonic()
        look(process(here))
        assert time.monotonic() - began < 10
        assert here.ledger.redis.hlen(here.ledger._key("alerts", "notices")) == 1
        webhook.may_answer.set()
        wait_until(lambda: webhook.heard, 20)

    def test_a_worker_with_a_webhook_that_hangs_runs_its_jobs(self, make_bench, webhook):
        webhook.may_answer.clear()
        bench = make_bench(frappe_jobs_alerts={"webhook": webhook.url})
        bench.use()
        ledger = runtime.current().ledger
        notice = targets.Notice("a", "fails:x", "begins", "x", time.time())
        ledger.redis.hset(
            ledger._key("alerts", "notices"), "webhook:begins:a", json.dumps(notice.__dict__)
        )
        with bench.worker("--burst") as worker:
            pass
        assert worker.process.wait() == 0

    def test_a_method_of_an_app_is_a_job_of_its_site(self, make_bench):
        bench = make_bench(frappe_jobs_alerts={"method": "acme.tasks.echo", "site": "site2"})
        here = bench.use()
        Reports(here.ledger).tell(Report("worker@here", ["default"], 1, None))
        fail(here.ledger, 5)
        look(process(here), process(here))
        (job,) = [
            record.message for record in here.ledger.records("site2")
            if record.message.method == "acme.tasks.echo"
        ]  # fmt: skip
        assert job.arguments["what"] == "begins" and "5 times" in job.arguments["text"]

    def test_e_mail(self, make_bench):
        got = []

        class Mail(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 here\r\n")
                while line := self.rfile.readline().decode().strip():
                    if line.upper() == "DATA":
                        self.wfile.write(b"354 go on\r\n")
                        lines = iter(lambda: self.rfile.readline().decode().rstrip(), ".")
                        got.append("\n".join(lines))
                    self.wfile.write(b"250 so be it\r\n")

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"smtp://127.0.0.1:{server.server_address[1]}"
            make_bench(frappe_jobs_alerts={"email": {"to": "ops@example.com", "server": url}}).use()
            here = runtime.current()
            fail(here.ledger, 5, method="acme.tasks.fail\nBcc: them@example.com")
            look(process(here), process(here))
            server.shutdown()
        (mail,) = got
        head, _, body = mail.partition("\n\n")
        (incident,) = re.findall("Incident (.*)", body)
        assert f"Message-ID: <{incident}.begins@" in head  # the same if it is sent once more
        assert "To: ops@example.com" in head and "\nBcc" not in head and "5 times" in body

    @pytest.mark.parametrize(
        ("alerts", "said"),
        [
            ({"slack": "x"}, "legal are"),
            ({"failures_in_a_row": 3}, "names no target"),
            ({"webhook": "file:///etc/passwd"}, "http://"),
            ({"email": {"to": "a", "bcc": "b"}}, "'bcc'"),
            ({"email": {"to": "a", "server": "ftp://x"}}, "smtp://"),
            ({"email": {"to": "a", "server": "smtp://x:port"}}, "smtp://"),
            ({"email": {"to": [], "server": "smtp://x"}}, "'to'"),
            ({"email": {"to": [1]}}, "'to'"),
            ({"webhook": "http://[secret"}, "http://"),
            ({"webhook": ["http://x/secret"]}, "http://"),
            ({"webhook": "http:///secret"}, "http://"),
            ({"method": "acme.tasks.echo"}, "'site'"),
            ({"webhook": "http://x", "failures_in_a_row": True}, "1 or more"),
        ],
    )
    def test_a_wrong_setting_is_said_with_what_is_legal(self, make_bench, alerts, said):
        here = make_bench(frappe_jobs_alerts=alerts).use()
        with pytest.raises(ConfigError, match=said):
            process(here)
        (finding,) = of_alerts(here)
        assert (finding.level, "secret" in str(finding)) == ("error", False)
        assert re.search(said, finding.what) and finding.what.endswith("No alert is said.")

    def test_the_settings_and_the_doctor_do_not_show_the_address(self, make_bench, webhook):
        bench = make_bench(frappe_jobs_alerts={"webhook": webhook.url, "email": {"to": "ops"}})
        assert "services" not in bench.run("settings").stdout
        (finding,) = of_alerts(bench.use())
        assert (finding.level, finding.what) == ("ok", "Alerts go to: webhook, email.")

    def test_targets_come_from_the_benchs_own_file_alone(self, make_bench, monkeypatch):
        """Who may set a variable, or write a site's configuration, sends no alerts elsewhere."""
        elsewhere = {"webhook": "http://127.0.0.1:9/secret"}
        bench = make_bench()
        monkeypatch.setenv("FRAPPE_JOBS_ALERTS", json.dumps(elsewhere))
        bench.write("site1/site_config.json", {"frappe_jobs_alerts": elsewhere})
        here = bench.use()
        assert here.settings.alerts is None and not here.settings.keeps_history
        (ignored,) = of_alerts(here)
        assert ignored.level == "warning" and "secret" not in str(ignored)
        assert ignored.what.startswith("FRAPPE_JOBS_ALERTS is set, and not read")
        (misplaced,) = [
            one for one in check_configuration(here.in_force, ["site1"]) if "alerts" in one.what
        ]
        assert "no effect on one site" in misplaced.what and "secret" not in str(misplaced)


def of_alerts(here):
    """What the doctor says of them."""
    return [*check_alerts(parts_of(here).alerts)]


def lease_of(here):
    return [*here.ledger.redis.scan_iter(here.ledger._key("turn", "alert:*"), count=1000)]


def bench_of(make_bench, server, webhook):
    """On a Redis of its own."""
    bench = make_bench()
    values = {
        "redis_queue": embedded.running(server),
        "frappe_jobs_alerts": {"webhook": webhook.url},
    }
    bench.write("common_site_config.json", bench.config | values)
    return bench


def look_away(*processes):
    for one in processes:
        one.look()


class TestRedisAway:
    def test_it_is_said_once_by_a_machine_and_not_through_redis(self, make_bench, server, webhook):
        here = bench_of(make_bench, server, webhook).use()
        one, other = process(here), process(here)
        look(one, other)
        embedded.stop(server)
        webhook.status = 500
        look_away(one, other)
        assert webhook.said == []
        webhook.status = 200
        look_away(other, one, other, one, other)
        assert [what for what, _ in webhook.said] == ["begins"]
        assert "Redis is away" in webhook.said[0][1]
        embedded.start(server)
        webhook.status = 500
        look(other, one)
        webhook.status = 200
        look(one, other, one)
        assert [what for what, _ in webhook.said] == ["begins", "over"]
        assert len({one["incident"] for one in webhook.heard}) == 1
        embedded.stop(server)
        look_away(one, other)
        assert [what for what, _ in webhook.said] == ["begins", "over", "begins"]
        assert len({one["incident"] for one in webhook.heard}) == 2
        embedded.start(server)
