"""One URL for all who connect, whatever it says; and Celery's own variables do not part them."""

from __future__ import annotations

import json

import pytest
import redis
import warm
from celery import Celery
from chaos.servers import Redis
from ports import free_port

import frappe_jobs as frappe
from frappe_jobs import errors, runtime
from frappe_jobs.celery.app import extend_app
from frappe_jobs.testing import wait_until

NOWHERE = "redis://:geheim@127.0.0.1:1/0"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A Redis of the module's own, on a port and on a socket."""

    class OnSocketToo(Redis):
        def _command(self):
            command, variables = super()._command()
            return [*command, "--unixsocket", str(self.folder / "r.sock")], variables

    with OnSocketToo(tmp_path_factory.mktemp("redis")) as server:
        yield server


def run_one(bench):
    """Send a job, have a worker run it, and wait for it as Celery's own clients do."""
    bench.use()
    with frappe.site("site1"):
        job = frappe.enqueue("acme.tasks.add", x=1, y=2)
    done = bench.run("worker", "--queue", "default", "--burst")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert job.wait(5) == 3
    assert runtime.current().app.AsyncResult(job.message_id).get(timeout=5) == 3
    return done


def connections(server):
    """Which databases the clients of that server are in that have a name."""
    with redis.Redis.from_url(server.url) as client:
        return {int(one["db"]) for one in client.client_list() if one["name"] == "shop"}


class TestRedis:
    @pytest.mark.parametrize("on", ["port", "socket"])
    def test_its_options_hold_for_all_who_connect(self, make_bench, own, on):
        where = own.url.removesuffix("/0") if on == "port" else f"unix://{own.folder}/r.sock"
        options = "db=4&socket_timeout=5&health_check_interval=25&client_name=shop"
        bench = make_bench(redis_queue=f"{where}?{options}")
        run_one(bench)
        with bench.worker_of("schedule", "--quiet"), bench.worker("--queue", "short"):
            # One that connects says its name before it asks for its database.
            wait_until(lambda: connections(own) == {4}, 10)
            status = json.loads(
                bench.run("--site", "site1", "scheduler", "status", "--format", "json").stdout
            )
            assert status[0]["leader"]
            found = bench.run("doctor")
        assert "1 worker" in found.stdout and "0 errors" in found.stdout, found.stdout
        with redis.Redis.from_url(own.url) as client:
            assert client.dbsize() == 0  # all of it is in the one that was named

    @pytest.mark.parametrize(
        ("key", "command"),
        [
            ("redis_queue", "--site site1 enqueue acme.tasks.ping"),
            ("redis_queue", "worker --burst"),
            ("redis_queue", "worker-pool --burst"),
            ("redis_queue", "schedule"),
            ("redis_queue", "queues"),
            ("redis_queue", "migrate --site all"),
            ("redis_queue", "--site site1 jobs list"),
            ("redis_queue", "--site site1 ready-for-migration"),
            ("redis_queue", "doctor"),
            ("redbeat_redis_url", "--site site1 enqueue acme.tasks.ping"),
            ("redbeat_redis_url", "schedule"),
            ("redbeat_redis_url", "--site site1 scheduler status"),
            ("celery_result_backend", "worker --burst"),
            ("celery_result_backend", "doctor"),
        ],
    )
    def test_what_cannot_mean_the_same_is_refused_by_each_command(self, make_bench, key, command):
        bench = make_bench(**{key: "redis://:geheim@h?protocol=3"})
        done = bench.run(*command.split())
        said = done.stdout + done.stderr
        assert (done.returncode, "Traceback" in said, "geheim" in said) == (1, False, False), said
        (line,) = [line for line in said.splitlines() if repr(key) in line]
        assert f"{bench.sites}/common_site_config.json" in line
        assert "not 'protocol'. It is: 'redis://:***@h?protocol=3'." in line
        assert command == "doctor" or said.count("\n") == 1

    @pytest.mark.parametrize("backend", ["nonsense", "nonsense://x", "db+nonsense://u:geheim@h/x"])
    def test_a_result_backend_that_celery_has_not_is_refused(self, make_bench, backend):
        bench = make_bench(celery_result_backend=backend)
        for command in (["--site", "site1", "enqueue", "acme.tasks.ping"], ["worker", "--burst"]):
            done = bench.run(*command)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
            assert "'celery_result_backend' must be one of Celery's" in done.stderr
            assert "geheim" not in done.stderr


class TestEnvironment:
    """Celery's own variables, as another app on the machine may have them."""

    VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")

    @pytest.fixture
    def bench(self, make_bench):
        bench = make_bench()
        bench.variables |= dict.fromkeys((*self.VARIABLES, "CELERY_RESULT_BACKEND"), NOWHERE)
        return bench

    def test_the_configuration_holds_for_who_sends_and_who_runs_and_says_so(
        self, bench, monkeypatch, caplog
    ):
        for name, value in bench.variables.items():
            monkeypatch.setenv(name, value)
        said = run_one(bench).stderr
        for text in (said, caplog.text):
            for name in bench.variables:
                assert f"{name} is in the environment (redis://:***@127.0.0.1:1/0)" in text
            assert "geheim" not in text
        found = bench.run("doctor")
        (line,) = [one for one in found.stdout.splitlines() if "CELERY_BROKER_URL is in" in one]
        assert line.startswith("warning") and "'celery_broker_url' (FRAPPE_CELERY_BROK" in line

    def test_celerys_own_command_line_goes_by_it_too(self, bench):
        bench.variables.clear()
        asked = ["-A", "frappe_jobs", "-b", NOWHERE, "report"]
        done = warm.run(bench.start, asked, bench.path, bench.environment, "", module="celery")
        assert "CELERY_BROKER_URL is in the environment" in done.stderr, done.stderr
        assert bench.redis_url in done.stdout and "127.0.0.1:1" not in done.stdout

    def test_one_that_says_the_same_is_nothing_to_speak_of(self, bench):
        bench.variables = dict.fromkeys(self.VARIABLES, bench.redis_url)
        assert "environment" not in bench.run("queues").stderr + bench.run("doctor").stdout

    def test_without_a_broker_of_ours_it_is_named(self, make_bench):
        bench = make_bench(redis_queue=None)
        bench.variables["CELERY_BROKER_URL"] = NOWHERE
        done = bench.run("queues")
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "CELERY_BROKER_URL" in done.stderr and "geheim" not in done.stderr

    @pytest.mark.filterwarnings("ignore:Sites take no turns")
    def test_a_teams_own_app_goes_by_it_and_we_with_it(self, bench, make_bench, monkeypatch):
        monkeypatch.setenv("CELERY_BROKER_URL", bench.redis_url)
        other = make_bench(redis_queue=None)
        extend_app(Celery("team", broker=NOWHERE, set_as_current=False), other.sites)
        assert other.use().in_force.redis_url == bench.redis_url
        with frappe.site("site1"):
            assert frappe.enqueue("acme.tasks.ping").get_status() == "queued"


class TestTeam:
    """The URL of a team's own app."""

    def settings_of(self, make_bench, broker, **conf):
        bench = make_bench(redis_queue=None)
        app = Celery("team", broker=broker, set_as_current=False)
        app.conf.update(**conf)
        extend_app(app, bench.sites)
        return bench.use().in_force

    def test_its_tls_is_ours_too(self, make_bench):
        here = self.settings_of(
            make_bench, "redis://:pw@h:1/2",
            broker_use_ssl={"ssl_cert_reqs": 0, "ssl_check_hostname": False},
        )  # fmt: skip
        said = runtime.current().ledger.redis.connection_pool.connection_kwargs
        assert here.redis_url.startswith("rediss://:pw@h:1/2?")
        assert (said["ssl_cert_reqs"], said["ssl_check_hostname"]) == ("none", False)

    @pytest.mark.parametrize(
        ("broker", "conf", "said"),
        [
            ("redis://:geheim@h?db=4", {}, "Celery cannot read .*unexpected keyword argument 'db'"),
            ("redis://:geheim/x@h", {}, r"Celery cannot read .*redis://:\*\*\*@h: ValueError"),
            ("redis://h/0", {"broker_read_url": NOWHERE}, "must be the same"),
            ("", {}, "has no broker_url"),
        ],
    )
    def test_what_cannot_work_is_refused(self, make_bench, broker, conf, said):
        with pytest.raises(errors.ConfigError, match=said) as refused:
            self.settings_of(make_bench, broker, **conf)
        assert "geheim" not in str(refused.value)

    def test_nodes_of_rabbitmq_may_be_a_list(self, make_bench):
        bench = make_bench()
        nodes = [f"amqp://127.0.0.1:{free_port()}//", "amqp://127.0.0.1:1//"]
        app = Celery("team", broker=nodes, set_as_current=False)
        extend_app(app, bench.sites)
        assert bench.use().in_force.broker_url == ";".join(nodes)
