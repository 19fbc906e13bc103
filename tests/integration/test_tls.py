"""Real servers that speak TLS, with a certificate authority of the tests' own."""

from __future__ import annotations

import os
import re
import shlex

import pytest
import redis
from amqp.exceptions import AccessRefused
from chaos.servers import RabbitMQ
from kombu import Connection
from tls import Authority, TLSRabbitMQ, TLSRedis

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.cli.doctor import parts_of
from frappe_jobs.doctor.checkup import Checkup
from frappe_jobs.servers.url import read_url
from frappe_jobs.testing import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client_certificate(authority):
    """The options of a URL that name one."""
    certificate, key = authority.sign("client")
    return f"&ssl_certfile={certificate}&ssl_keyfile={key}"


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):
    with TLSRedis(tmp_path_factory.mktemp("redis"), authority) as server:
        yield server


@pytest.fixture
def on_server(server, client_certificate):
    """What the server asks of its clients; it asks for no certificate again at the end."""
    url = read_url(server.url + client_certificate)  # who connects anew has to show it
    with redis.Redis.from_url(**url.for_redis_py()) as client:
        yield lambda asks: client.config_set("tls-auth-clients", asks)
        client.config_set("tls-auth-clients", "no")


def run_one(bench):
    """A job is sent, run and waited for; the scheduler leads; the doctor finds no error."""
    here = bench.use()
    with frappe.site("site1"):
        job = frappe.enqueue("acme.tasks.add", x=1, y=2)
    with bench.worker("--queue", "default"), bench.worker_of("schedule", "--quiet"):
        assert job.wait(20) == 3
        wait_until(lambda: here.timetable.leader(), 20)
        said = bench.run("doctor").stdout
    assert "0 errors" in said and "1 worker" in said, said
    assert here.app.AsyncResult(job.message_id).get(timeout=10) == 3


def refused(bench):
    """What who sends a job is told, and the doctor's finding on that server."""
    here = bench.use()
    with frappe.site("site1"), pytest.raises(errors.BrokerUnavailable) as unavailable:
        frappe.enqueue("acme.tasks.ping")
    line = str(unavailable.value)
    assert "\n" not in line and "guest:guest" not in line
    found = [*Checkup(parts_of(here)).servers()]
    (finding,) = [one for one in found if one.level == "error"]
    assert "is out of reach: " in finding.what
    return line


class TestRedis:
    def test_its_certificate_is_verified_and_all_work(self, make_bench, server):
        run_one(make_bench(redis_queue=server.url.replace("/0", "/2")))

    def test_who_must_show_a_certificate_does(
        self, make_bench, server, on_server, client_certificate
    ):
        on_server("yes")
        run_one(make_bench(redis_queue=server.url.replace("/0", "/3") + client_certificate))
        line = refused(make_bench(redis_queue=server.url))
        assert "is out of reach" in line and "for our certificate? Then name it: ssl_cert" in line

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ("another authority", "Name the authority that signed its certificate: ssl_ca_certs."),
            ("no authority", "Name the authority that signed its certificate: ssl_ca_certs."),
            ("another host", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
            ("no TLS", "Does it speak only TLS? Then use rediss://."),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, make_bench, server, tmp_path, wrong, said):
        url = {
            "another authority": f"rediss://localhost:{server.port}/0"
            f"?ssl_ca_certs={Authority(tmp_path).certificate}",
            "no authority": f"rediss://localhost:{server.port}",
            "another host": server.url.replace("localhost", "127.0.0.1"),
            "no TLS": f"redis://localhost:{server.port}",
        }[wrong]
        line = refused(make_bench(redis_queue=url))
        assert f"Redis at {url} is out of reach: " in line and said in line

    def test_who_asks_for_it_is_not_verified(self, make_bench, server):
        bench = make_bench(redis_queue=f"rediss://127.0.0.1:{server.port}/4?ssl_cert_reqs=none")
        bench.use()
        with frappe.site("site1"):
            frappe.enqueue("acme.tasks.ping")
        assert bench.run("worker", "--queue", "default", "--burst").returncode == 0
        assert runtime.current().ledger.waiting("default") == 0

    def test_a_worker_says_it_waits_and_goes_on_once_it_is_right(
        self, make_bench, server, on_server
    ):
        on_server("yes")
        bench = make_bench(redis_queue=server.url.replace("/0", "/5"))
        with bench.process("worker", "--queue", "default") as worker:
            wait_until(lambda: "tries again" in worker.log, 20)
            assert re.search("certificate required|EOF occurred|reset by peer", worker.log)
            assert "Traceback" not in worker.log
            on_server("no")
            worker.wait_ready()


@pytest.fixture(scope="module")
def node(tmp_path_factory, authority):
    if RabbitMQ.script() is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("There is no rabbitmq-server here, of which a test would start a node.")
    with TLSRabbitMQ(tmp_path_factory.mktemp("rabbitmq"), authority) as node:
        yield node


class TestRabbitMQ:
    def bench_of(self, make_bench, url):
        bench = make_bench(celery_broker_url=url)
        bench.amqp_url = None  # nothing of it stays on a node of the test's own
        return bench

    def test_both_certificates_are_verified_and_all_work(self, make_bench, node):
        run_one(self.bench_of(make_bench, node.url))

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ("another authority", "Name the authority that signed its certificate: ssl_ca_certs."),
            ("no authority", "Name the authority that signed its certificate: ssl_ca_certs."),
            ("another host", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
            ("no certificate of ours", "Does it ask for our certificate?"),
            ("no TLS", "Does it speak only TLS? Then use amqps://."),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(
        self, make_bench, node, authority, tmp_path, wrong, said
    ):
        url = {
            "another authority": f"{node.base}?ssl_ca_certs={Authority(tmp_path).certificate}",
            "no authority": node.base,
            "another host": node.url.replace("localhost:", "127.0.0.1:"),
            "no certificate of ours": f"{node.base}?cacertfile={authority.certificate}",
            "no TLS": node.base.replace("amqps", "amqp"),
        }[wrong]
        bench = self.bench_of(make_bench, url)
        # In a process of its own: kombu would lend a connection that another bench has made here.
        done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping")
        assert (done.returncode, done.stderr.count("\n")) == (69, 1), done.stderr
        safe = url.replace(":guest@", ":***@")
        assert f"The broker {safe} is out of reach: " in done.stderr and said in done.stderr


class TestRights:
    """A user who may do what ``setup rights`` prints, and nothing else."""

    def grants(self, bench):
        lines = bench.run("setup", "rights").stdout.splitlines()
        return [shlex.split(line.replace("PASSWORD", "pw")) for line in lines]

    def run_all(self, bench):
        """A job ends, one fails, two are cancelled, one is due by the clock; the doctor looks."""
        here = bench.use()
        with frappe.site("site1"):
            slow = frappe.enqueue("acme.tasks.sleep", seconds=60)
            front = frappe.enqueue("acme.tasks.ping", at_front=True, job_id="one", deduplicate=True)
            failing = frappe.enqueue("acme.tasks.fail", retry=frappe.Retry(1, 1))
            gone = frappe.enqueue("acme.tasks.ping", queue="long")
            assert gone.cancel()
        add = "--site site1 scheduled-jobs add acme.tasks.often --frequency Cron --cron"
        added = bench.run(*add.split(), "* * * * * *")
        assert added.returncode == 0, added.stderr
        with bench.worker("--concurrency", "2") as worker, bench.worker_of("schedule"):
            assert front.wait(20) == "pong"
            wait_until(lambda: slow.get_status() == "started", 20)
            slow.cancel()
            with pytest.raises(errors.JobFailed):
                failing.wait(20)
            wait_until(lambda: bench.marks("often"), 20)
            wait_until(lambda: slow.get_status() == "cancelled", 20)
            said = bench.run("doctor").stdout
        assert "0 errors" in said and "1 worker online" in said, said
        for command in ("queues", "jobs list", "purge-jobs --yes", "migrate"):
            done = bench.run("--site", "site1", *command.split())
            assert done.returncode == 0, done.stderr
        assert here.app.AsyncResult(front.message_id).get(timeout=10) == "pong"
        return worker.log

    def test_on_redis(self, make_bench, server):
        with redis.Redis.from_url(
            **read_url(server.url).for_redis_py(decode_responses=True)
        ) as admin:
            bench = make_bench(redis_queue=server.url.replace("//", "//frappe_jobs:pw@"))
            (grant,) = self.grants(bench)
            assert grant[:4] == ["redis-cli", "-h", "localhost", "-p"]
            admin.execute_command(*grant[grant.index("acl") :])
            admin.execute_command("ACL", "LOG", "RESET")
            self.run_all(bench)
            assert admin.execute_command("ACL", "LOG") == []
            for refused in ("keys *", "flushall", "get secret", "publish secret x"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    runtime.current().ledger.redis.execute_command(*refused.split())

    def test_on_rabbitmq(self, make_bench, node):
        url = node.url.replace("//guest:guest@", "//frappe_jobs:pw@")
        bench = make_bench(celery_broker_url=url)
        bench.amqp_url = None
        _, *commands = self.grants(bench)
        for command in commands:
            node.control(*command[1:])
        log = self.run_all(bench)
        assert "ACCESS_REFUSED" not in log
        said = "".join(file.read_text() for file in node.folder.glob("log/*.log"))
        with Connection(read_url(url).for_celery(), ssl=read_url(url).use_ssl()) as connection:
            with pytest.raises(AccessRefused):
                connection.default_channel.queue_declare("another app's")
        assert "operation" not in "".join(re.findall(".*access to.*refused.*", said)), said
