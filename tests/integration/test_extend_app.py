"""A team's own Celery app, extended: everything of theirs stays, and both kinds of job run."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import textwrap
import warnings
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from acme import tasks
from celery import Celery
from kombu import Connection, Queue

import frappe_jobs as frappe
from frappe_jobs import errors
from frappe_jobs.celery.app import extend_app
from frappe_jobs.testing import wait_until

APPS = Path(__file__).parents[1] / "apps"


def team_app(broker, **conf):
    app = Celery(f"team-{uuid4()}", broker=broker, backend=broker, set_as_current=False)
    app.conf.update(**conf)
    return app


class Team:
    """Their app, in processes of theirs."""

    def __init__(self, bench):
        self.bench = bench
        shutil.copy(APPS / "acme_celery.py", bench.path)
        bench.variables |= {
            "ACME_BROKER": bench.redis_url, "ACME_PREFIX": bench.id, "PYTHONPATH": str(bench.path),
        }  # fmt: skip

    @contextmanager
    def worker(self, *arguments):
        """Their worker, started as they always did."""
        with open(os.devnull, "r+") as nothing:
            worker = self.bench.forker.start(
                ["-A", "acme_celery", "worker", "-c", "1", *arguments],
                self.bench.path, self.bench.environment, *[nothing.fileno()] * 3, module="celery",
            )  # fmt: skip
        try:
            yield
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)

    def ask(self, code):
        """Run code in a process of theirs, and read the JSON it prints."""
        head = "import json, acme_celery, frappe_jobs as frappe\nfrom acme_celery import *\n"
        done = self.bench.python(head + textwrap.dedent(code))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def team_on_rabbitmq(make_bench, amqp_url):
    team = Team(make_bench(celery_broker_url=amqp_url, frappe_jobs_celery_app="acme_celery"))
    team.bench.variables |= {"ACME_BROKER": amqp_url, "ACME_BACKEND": team.bench.redis_url}
    return team


@pytest.fixture
def team(make_bench):
    """The bench names no broker of its own: the app's counts."""
    bench = make_bench(redis_queue=None, frappe_jobs_celery_app="acme_celery")
    return Team(bench)


def test_what_is_theirs_stays_as_it_was(bench):
    app = team_app(
        bench.redis_url,
        task_routes={"team.mail": {"queue": "mail"}},
        task_default_priority=3,
        worker_prefetch_multiplier=7,
        broker_transport_options={"visibility_timeout": 1234},
        beat_schedule={"mail": {"task": "team.mail", "schedule": 3600.0}},
        accept_content=["json", "pickle"],
        task_serializer="pickle",
    )
    app.task(tasks.ping, name="team.mail", shared=False)
    before = copy.deepcopy(dict(app.conf.items()))
    queues = dict(app.amqp.queues)
    known = set(app.tasks)
    other = bench.sites.parent / "other"
    bench.sites.rename(other)  # a folder that has no app yet
    assert extend_app(app, other) is app
    assert dict(app.conf.items()) == before
    assert dict(app.amqp.queues) == queues
    assert set(app.tasks) - known == {"frappe_jobs.execute"}
    assert extend_app(app, other) is app  # once more changes nothing


def test_both_kinds_of_job_run_on_their_own_worker(team):
    queues = ",".join(f"{team.bench.id}{name}" for name in ("-celery", "-mail", ":default"))
    with team.worker("-Q", queues):
        code = """
            with frappe.site("site1", user="grete"):
                job = frappe.enqueue("acme.tasks.whoami")
                theirs = frappe.enqueue(mail, to="Otto")
            answers = [job.wait(20)[:2], theirs.get(timeout=20), double.delay(4).get(timeout=20)]
            answers.append(app.amqp.router.route({}, "team.mail")["queue"].name)
            print(json.dumps(answers))
        """
        expected = [["site1", "grete"], "mailed Otto", 8, f"{team.bench.id}-mail"]
        assert team.ask(code) == expected


def test_without_being_told_their_worker_leaves_the_benchs_queues_alone(team):
    with team.worker():
        code = """
            with frappe.site("site1"):
                job = frappe.enqueue("acme.tasks.ping")
            answer = double.delay(5).get(timeout=20)
            print(json.dumps([answer, job.get_status()]))
        """
        assert team.ask(code) == [10, "queued"]


def test_a_worker_of_ours_runs_both_on_the_benchs_queues(team):
    with team.bench.worker("--queue", "short") as worker:
        code = f"""
            with frappe.site("site2"):
                job = frappe.enqueue("acme.tasks.whoami", "short")
                theirs = frappe.enqueue(double, "short", x=21)
            answers = [job.wait(20)[0], theirs.get(timeout=20)]
            found = app.control.inspect().conf()  # of every worker on this server
            (conf,) = [found[name] for name in found if ".{worker.process.pid}@" in name]
            options = conf["broker_transport_options"]
            answers += [conf["worker_prefetch_multiplier"], options["priority_steps"]]
            print(json.dumps(answers))
        """
        assert team.ask(code) == ["site2", 42, 1, [0, 3, 6, 9]]


def test_a_worker_of_ours_runs_celerys_own_tasks_for_them_and_what_follows_a_task(team):
    with team.bench.worker("--queue", "short"):
        code = """
            queue = {"queue": f"{PREFIX}:short"}
            mapped = double.map([1, 2]).apply_async(**queue)
            chained = (double.s(1).set(**queue) | double.s().set(**queue)).apply_async()
            chunks = double.chunks([(n,) for n in range(5)], 2).group()
            chunked = [one.apply_async(**queue) for one in chunks.tasks]
            answers = [mapped, chained, *chunked]
            print(json.dumps([answer.get(timeout=20) for answer in answers]))
        """
        assert team.ask(code) == [[2, 4], 4, [0, 2], [4, 6], [8]]


def test_a_worker_of_ours_retries_their_task_and_keeps_to_its_rate(team):
    with team.bench.worker("--queue", "short"):
        code = """
            import time

            queue = {"queue": f"{PREFIX}:short"}
            began = time.time()
            rings = [ring.apply_async(**queue) for _ in range(4)]
            with frappe.site("site1"):
                job = frappe.enqueue("acme.tasks.ping", "short")
                job.wait(20)
            waited = time.time() - began
            at = [one.get(timeout=20) for one in rings]
            print(json.dumps([call.apply_async(**queue).get(timeout=20), at[-1] - at[0], waited]))
        """
        retries, seconds, waited = team.ask(code)
    assert retries == 2
    assert seconds > 0.8, waited  # three pauses of half a second, less what was late to begin


def test_what_their_queues_workers_would_refuse_is_an_error_at_the_call(team):
    code = """
        pickled = app.task(double.run, name="team.pickled", serializer="pickle")
        with frappe.site("site1"):
            try:
                frappe.enqueue(pickled, "short", x=1)
            except frappe.errors.ArgumentError as error:
                print(json.dumps(str(error)))
    """
    assert "sent as 'pickle'" in team.ask(code) and "json, yaml" in team.ask(code)


@pytest.mark.filterwarnings("ignore::frappe_jobs.errors.GuestWarning")
@pytest.mark.parametrize("whose", ["theirs", "ours"])
def test_on_rabbitmq_clients_and_workers_declare_the_benchs_queues_alike(team_on_rabbitmq, whose):
    team, bench = team_on_rabbitmq, team_on_rabbitmq.bench
    code = """
        with frappe.site("site1"):
            theirs = frappe.enqueue(double, "short", x=21)
            jobs = [frappe.enqueue("acme.tasks.whoami", "short", at_front=x) for x in (0, 1)]
        print(json.dumps([*(job.wait(20)[0] for job in jobs), theirs.get(timeout=20)]))
    """
    theirs = team.worker("-Q", f"{bench.id}:short")
    with theirs if whose == "theirs" else bench.worker("--queue", "short"):
        assert team.ask(code) == ["site1", "site1", 42]
        with Connection(bench.amqp_url) as connection:
            found = Queue(f"{bench.id}:short", channel=connection.default_channel)
            found.queue_arguments = {"x-max-priority": 1}
            found.queue_declare()  # an error if it is there and was declared otherwise


def test_a_worker_of_ours_stops_as_it_does_without_their_app(team):
    with team.bench.worker("--queue", "default") as worker:
        code = """
            from frappe_jobs.testing import wait_until

            with frappe.site("site1"):
                job = frappe.enqueue("acme.tasks.work", seconds=60, timeout=3, job_id="slow")
            wait_until(lambda: job.get_status() == "started", 10)
            print(json.dumps(job.status))
        """
        assert team.ask(code) == "started"
        os.killpg(worker.process.pid, signal.SIGTERM)
        assert worker.process.wait(15) == 0
    ended = 'print(json.dumps(frappe.get_job("slow", "site1").reason))'
    assert team.ask(ended) == "timed out after 3 s"


def test_a_worker_of_ours_is_made_of_all_its_steps_and_leaves_standard_output_alone(team):
    team.bench.variables["ACME_DEBUG"] = "1"
    done = team.bench.run("worker", "--queue", "short", "--burst")
    assert (done.returncode, done.stdout) == (0, "")
    for step in ("FinishReading", "TakeSignals", "Burst", "Drain", "DropTimers", "LeaseKeeper"):
        assert re.search(rf"boot order: .*\b{step}\b", done.stderr), step


def test_their_redbeat_entries_stay(team):
    code = """
        from celery.schedules import schedule
        from redbeat.schedulers import RedBeatScheduler, RedBeatSchedulerEntry, get_redis

        RedBeatSchedulerEntry("hourly", "team.double", schedule(3600), args=[1], app=app).save()
        RedBeatScheduler(app)
        with frappe.site("site1"):
            frappe.enqueue("acme.tasks.ping")
        keys = get_redis(app).keys(f"{PREFIX}-redbeat:*")
        print(json.dumps(sorted(key.partition(":")[2] for key in keys)))
    """
    assert {"hourly", "mail"} <= set(team.ask(code))


def test_where_the_team_sends_pickle_our_messages_are_json_all_the_same(make_bench, amqp_url):
    bench = make_bench(celery_broker_url=amqp_url)
    conf = {"task_serializer": "pickle", "accept_content": ["json", "pickle"]}
    extend_app(team_app(amqp_url, result_backend=bench.redis_url, **conf), bench.sites)
    bench.use()
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping)
    with Connection(amqp_url) as connection:
        message = Queue(f"{bench.id}:default", channel=connection.default_channel).get()
    assert message.content_type == "application/json"


class TestPromises:
    """What the team's settings make impossible is said at the call."""

    @pytest.fixture
    def guest(self, make_bench):
        """Enqueues on an extended app with those settings, and gives what was said."""

        def enqueue(conf, **options):
            bench = make_bench(frappe_jobs_guest_queues=[])
            extend_app(team_app(bench.redis_url, **conf), bench.sites)
            bench.use()
            with frappe.site("site1"), warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                frappe.enqueue(tasks.ping, **options)
            assert {warning.filename for warning in said} <= {__file__}
            return [str(warning.message) for warning in said]

        return enqueue

    def test_a_job_longer_than_the_visibility_timeout(self, guest):
        (said,) = guest({}, timeout=7200)
        assert "visibility_timeout" in said and "3600 s" in said
        options = {"broker_transport_options": {"visibility_timeout": 7200}}
        assert guest(options, timeout=7200) == []

    def test_at_front_with_workers_that_prefetch(self, guest):
        (said,) = guest({}, at_front=True)
        assert "worker_prefetch_multiplier" in said
        assert guest({"worker_prefetch_multiplier": 1}, at_front=True) == []

    def test_at_front_with_one_priority(self, guest):
        options = {"broker_transport_options": {"priority_steps": [0]}}
        (said,) = guest(options | {"worker_prefetch_multiplier": 1}, at_front=True)
        assert "priority_steps" in said

    def test_an_ordinary_job_needs_no_word(self, guest):
        assert guest({}) == []

    def test_that_sites_take_no_turns_is_told_once_for_each_queue(self, make_bench):
        bench = make_bench()
        extend_app(team_app(bench.redis_url), bench.sites)
        bench.use()
        with frappe.site("site1"), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for queue in ("short", "default", "short", "long"):
                frappe.enqueue(tasks.ping, queue)
        assert [str(one.message).partition(",")[0] for one in said] == [
            f"Sites take no turns in {name!r}" for name in ("short", "default", "long")
        ]  # fmt: skip
        assert {one.category for one in said} == {errors.GuestWarning}


class TestGuestQueues:
    """Which queues a team's own workers serve: nothing is filed there."""

    def test_in_others_the_sites_take_turns(self, make_bench):
        bench = make_bench(
            redis_queue=None, frappe_jobs_celery_app="acme_celery",
            frappe_jobs_guest_queues=["short"],
        )  # fmt: skip
        team = Team(bench)
        code = """
            with frappe.site("site1"):
                jobs = [frappe.enqueue("acme.tasks.whoami", "default") for _ in range(20)]
                jobs += [frappe.enqueue("acme.tasks.whoami", "short") for _ in range(3)]
            with frappe.site("site2"):
                late = frappe.enqueue("acme.tasks.whoami", "default")
            print(json.dumps([job.id for job in (*jobs, late)]))
        """
        ids = team.ask(code)
        with bench.worker("--queue", "default", "--burst") as ours:
            assert ours.process.wait(60) == 0
        with team.worker("-Q", f"{bench.id}:short"):
            code = f"""
                jobs = [frappe.get_job(id, "site1") for id in {ids[:-1]}]
                for job in jobs[20:]:
                    job.wait(20)
                late = frappe.get_job({ids[-1]!r}, "site2")
                before = sum(job.started_at < late.started_at for job in jobs[:20])
                print(json.dumps([before, [job.get_status() for job in jobs[20:]]]))
            """
            before, there = team.ask(code)
        assert before < 5 and there == ["finished"] * 3

    def test_a_worker_of_theirs_files_nothing_and_says_where_it_does_not_belong(self, make_bench):
        bench = make_bench(
            redis_queue=None, frappe_jobs_celery_app="acme_celery",
            frappe_jobs_guest_queues=["short"],
        )  # fmt: skip
        team = Team(bench)
        log = bench.path / "theirs.log"
        log.touch()
        with team.worker("-Q", f"{bench.id}:long", "--logfile", str(log)):
            wait_until(lambda: "'frappe_jobs_guest_queues'" in log.read_text(), 30)

    def test_a_queue_that_the_bench_has_not_is_refused(self, make_bench):
        bench = make_bench(frappe_jobs_guest_queues=["shrot"])
        with frappe.site("site1"), pytest.raises(errors.ConfigError, match="'shrot'.*short, def"):
            bench.use()
            frappe.enqueue(tasks.ping)

    def test_the_doctor_names_them(self, make_bench):
        bench = make_bench(frappe_jobs_guest_queues=["short", "long"])
        (line,) = [
            line for line in bench.run("doctor").stdout.splitlines() if "take no turns" in line
        ]
        assert line.startswith("warning") and "'short', 'long'" in line

    def test_no_site_is_paused_there(self, make_bench):
        bench = make_bench(frappe_jobs_guest_queues=["short"])
        done = bench.run("--site", "site1", "queues", "pause")
        assert done.returncode == 1 and "only whole queues: short" in done.stderr


@pytest.mark.parametrize("whose", ["theirs", "ours"])
def test_where_the_team_accepts_pickle_our_task_still_refuses_it(team, tmp_path, whose):
    bench, touched = team.bench, tmp_path / "touched"
    # As root Celery refuses to start a worker that accepts pickle, unless it is forced to.
    bench.variables |= {"ACME_ACCEPT": "json,pickle", "C_FORCE_ROOT": "1"}
    theirs, ours = f"{bench.id}-celery", f"{bench.id}:default"
    code = f"""
        from kombu import Connection
        import os

        class Exploit:
            def __reduce__(self):
                return os.system, ("touch {touched}",)

        there = {theirs!r} if {whose!r} == "theirs" else {ours!r}
        for queue, task in (({ours!r}, "frappe_jobs.execute"), (there, "team.double")):
            argument = Exploit() if "execute" in task else 4
            options = {{"queue": queue, "serializer": "pickle", "task_id": f"p-{{task}}"}}
            app.send_task(task, args=(argument,), **options)
        from celery.result import AsyncResult
        answer = AsyncResult("p-team.double", app=app).get(timeout=20)
        with frappe.site("site1"):
            frappe.enqueue("acme.tasks.ping").wait(20)
        print(json.dumps(answer))
    """
    worker = team.worker("-Q", f"{theirs},{ours}")
    with worker if whose == "theirs" else bench.worker("--queue", "default"):
        assert team.ask(code) == 8
    assert not touched.exists()


class TestRefused:
    def test_an_app_of_another_sites_folder(self, make_bench):
        one, two = make_bench(), make_bench()
        app = extend_app(team_app(one.redis_url), one.sites)
        with pytest.raises(errors.ConfigError, match="another sites folder"):
            extend_app(app, two.sites)

    def test_a_sites_folder_that_has_an_app_already(self, bench):
        with frappe.site("site1"):
            frappe.enqueue(tasks.ping)
        with pytest.raises(errors.ConfigError, match="before anything is enqueued"):
            extend_app(team_app(bench.redis_url), bench.sites)

    def test_an_app_with_a_task_of_our_name(self, make_bench):
        bench = make_bench()
        app = team_app(bench.redis_url)
        app.task(tasks.ping, name="frappe_jobs.execute", shared=False)
        with pytest.raises(errors.ConfigError, match="frappe_jobs.execute"):
            extend_app(app, bench.sites)

    def test_an_app_with_a_queue_of_our_name(self, make_bench):
        bench = make_bench()
        app = team_app(bench.redis_url, task_queues=[Queue(f"{bench.id}:short")])
        with pytest.raises(errors.ConfigError, match=f"{bench.id}:short.*bench_id"):
            extend_app(app, bench.sites)

    def test_an_app_whose_workers_would_refuse_json(self, make_bench):
        bench = make_bench()
        app = team_app(bench.redis_url, accept_content=["pickle"])
        with pytest.raises(errors.ConfigError, match="accept_content"):
            extend_app(app, bench.sites)

    def test_a_module_that_extends_no_app(self, make_bench):
        make_bench(frappe_jobs_celery_app="acme.tasks").use()
        with frappe.site("site1"), pytest.raises(errors.ConfigError, match="extend_app"):
            frappe.enqueue(tasks.ping)
