"""The command line as people and scripts use it: real processes, output, exit status."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import warm
from acme import tasks
from doctored import beginning_with

import frappe_jobs as frappe
from frappe_jobs.cli import COMMANDS, main
from frappe_jobs.rows.queues import COLUMNS
from frappe_jobs.testing import wait_until

ROOT = Path(__file__).parents[2]


def processor_time():
    """Of this process's children; what else runs does not count."""
    now = os.times()
    return now.children_user + now.children_system


class TestHelp:
    def test_it_is_there_under_0_4_s_without_the_heavy_libraries(self, tmp_path):
        heavy = "celery|kombu|redis|sqlalchemy|acme"
        took = []
        for _ in range(3):
            began = processor_time()
            seen = subprocess.run(
                [sys.executable, "-X", "importtime", "-m", "frappe_jobs", "--help"],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            took.append(processor_time() - began)
        assert not re.search(rf"\| +({heavy})\b", seen.stderr)
        assert min(took) < 0.4

    def test_it_says_of_each_command_what_the_command_says_of_itself(self, bench):
        text = bench.run("--help").stdout
        for name, (_, short) in COMMANDS.items():
            command = main.get_command(None, name)
            assert command.help.split("\n")[0] == short
            assert re.search(rf"^  {name} +{re.escape(short)}$", text, re.MULTILINE)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_commands_help_needs_no_server_and_no_site(self, name, forker, tmp_path):
        done = warm.run(forker.start, [name, "--help"], tmp_path, os.environ, "")
        assert (done.returncode, done.stderr) == (0, "")

    def test_celery_offers_it_as_a_command_of_its_own(self, tmp_path):
        celery = Path(sys.executable).with_name("celery")
        done = subprocess.run([celery, "frappe-jobs", "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "worker" in done.stdout


class TestWithoutSQLAlchemy:
    """As after ``pip install frappe_jobs`` without an extra."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ("worker", "--burst"),
            ("schedule",),
            ("migrate",),
            ("enqueue", "acme.tasks.ping", "--site", "site1"),
            ("doctor",),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_one_line_says_what_to_install(self, bench, arguments):
        with beginning_with(bench, "import sys; sys.modules['sqlalchemy'] = None"):
            done = bench.run(*arguments)
        assert "pip install 'frappe_jobs[standalone]'" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        assert done.returncode == 1


class TestEnqueue:
    def test_it_prints_the_jobs_id(self, shared):
        done = shared.run("--site", "site1", "enqueue", "acme.tasks.ping", "--job-id", "typed")
        assert (done.returncode, done.stdout) == (0, "typed\n")
        with frappe.site("site1"):
            assert frappe.get_job("typed").wait(10) == "pong"

    def test_with_wait_it_prints_the_result(self, shared):
        arguments = (
            "acme.tasks.add",
            "--kwargs",
            '{"x": 40, "y": 2}',
            "--queue",
            "short",
            "--wait",
        )
        done = shared.run("enqueue", *arguments, "--at-front", "--site", "site2")
        assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")

    def test_its_options_are_the_jobs(self, bench):
        with frappe.site("site1"):
            waiting = frappe.enqueue(tasks.ping, "long")
            options = ("--queue", "long", "--timeout", "7", "--at-front", "--job-id", "typed")
            done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping", *options)
            assert done.returncode == 0, done.stderr
            job = frappe.get_job("typed")
            assert (job.timeout, job.position, waiting.position) == (7, 0, 1)

    def test_on_all_sites_it_is_sent_to_each(self, shared):
        done = shared.run("enqueue", "acme.tasks.whoami", "--wait", "--site", "all")
        assert [json.loads(line)[0] for line in done.stdout.splitlines()] == ["site1", "site2"]

    def test_a_job_that_fails_is_exit_status_1(self, shared):
        done = shared.run("--site", "site1", "enqueue", "acme.tasks.fail", "--wait")
        assert_refused(done, 1, "ValueError: on purpose")

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (["os.system"], 1, "may not run"),
            (["acme.tasks.system"], 1, "may not run"),
            (["acme.tasks.nope"], 1, "not found"),
            (["acme.tasks.add", "--kwargs", '{"z": 1}'], 1, "acme.tasks.add"),
            (["acme.tasks.ping", "--kwargs", "{half"], 2, "not JSON"),
            (["acme.tasks.ping", "--kwargs", "[" * 5000], 2, "nested deeper than 200 levels"),
            (["acme.tasks.ping", "--kwargs", '{"method": 1}'], 2, "method: an option of enqueue"),
            (["acme.tasks.ping", "--kwargs", '{"x": 1, "now": 1}'], 2, "now: an option of enq"),
            (["acme.tasks.ping", "--kwargs", '{"async": 1}'], 2, "async: an option of enqueue"),
            (["acme.tasks.ping", "--job-id", "\udcff"], 2, r"b'\xff' is not UTF-8"),
            (["acme.tasks.ping", "--kwargs", "[1]"], 2, "JSON object"),
            (["acme.tasks.ping", "--queue", "nope"], 2, "short, default, long"),
            (["acme.tasks.ping", "--queue", "short,long"], 2, "one queue"),
            (["acme.tasks.ping", "--timeout", "-5"], 2, "timeout"),
            (["acme.tasks.ping", "--site", "nowhere"], 2, "site1, site2"),
            (["acme.tasks.ping", "--site", "../etc"], 2, "does not exist"),
            (["acme.tasks.ping", "--nope"], 2, "nope"),
            ([], 2, "METHOD"),
        ],
    )
    def test_bad_input_is_said_clearly(self, shared, arguments, status, said):
        assert_refused(shared.run("--site", "site1", "enqueue", *arguments), status, said)

    def test_without_a_site_it_asks_which(self, shared):
        assert_refused(shared.run("enqueue", "acme.tasks.ping"), 2, "--site")

    def test_the_default_site_is_taken_else(self, make_bench):
        bench = make_bench(default_site="site2")
        assert bench.run("execute", "acme.tasks.install").returncode == 0
        assert (bench.sites / "site2/site.db").exists()
        assert not (bench.sites / "site1/site.db").exists()
        bench.variables["FRAPPE_SITE"] = "site1"
        assert bench.run("execute", "acme.tasks.install").returncode == 0
        assert (bench.sites / "site1/site.db").exists()
        bench.variables["FRAPPE_SITE"] = "nowhere"
        assert bench.run("--site", "site1", "execute", "acme.tasks.install").returncode == 0


class TestExecute:
    def test_it_runs_the_method_here_and_commits(self, bench):
        assert bench.run("--site", "all", "execute", "acme.tasks.install").stdout == "null\nnull\n"
        with frappe.site("site1"):
            frappe.new_doc("Account", name="till").insert()
        for balance in ("5", "10"):
            arguments = ("--kwargs", '{"account": "till", "amount": 5}')
            done = bench.run("--site", "site1", "execute", "acme.tasks.deposit", *arguments)
            assert done.stdout == f"{balance}\n"

    def test_what_no_worker_may_run_it_does_not_run_either(self, bench):
        done = bench.run(
            "--site", "site1", "execute", "os.system", "--kwargs", '{"command": "true"}'
        )
        assert_refused(done, 1, "may not run")


class TestQueues:
    def test_it_lists_workers_depth_and_the_oldest(self, bench):
        with frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.ping, "long", at_front=front) for front in (True, False)]
        with bench.worker("--queue", "short", "--concurrency", "2"):
            done = bench.run("queues", "--format", "json")
        short, default, long = json.loads(done.stdout)
        assert short == {
            "name": "short", "timeout": 300, "workers": 2, "depth": 0, "oldest": None,
            "delayed": 0, "limited": 0, "paused": None,
        }  # fmt: skip
        assert (default["workers"], long["depth"], long["timeout"]) == (0, 2, 1500)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", long["oldest"])
        oldest = datetime.fromisoformat(long["oldest"]).timestamp()
        assert abs(oldest - jobs[0].enqueued_at) < 0.0015

    def test_for_people_it_is_a_table(self, bench):
        lines = bench.run("queues").stdout.splitlines()
        assert lines[0].split() == [*map(str.upper, COLUMNS)]
        assert lines[1].split() == ["short", "300", "0", "0", "-", "0", "0", "-"]


class TestConfiguration:
    """What a broken bench gets, whatever the command."""

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"redis_queue": ', "line 1, column"),
            ('{\n "workers": [1]\n}', "'workers' must be"),
            ('{"workers": {"reports": {"timeout": -5}}}', "reports.timeout"),
            ('{"workers": {"reports": {"timeout": "5"}}}', "reports.timeout"),
            ('{"workers": {"reports": {"speed": 5}}}', "'speed'"),
            ('["a list"]', "JSON object"),
            ("{}", "redis_queue"),
            ('{"redis_queue": "sqs://user:s3cret@host/"}', "not supported"),
        ],
    )
    def test_it_is_named_with_its_file(self, bench, content, said):
        bench.write("common_site_config.json", content)
        done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping")
        assert_refused(done, 1, said)
        assert "s3cret" not in done.stdout + done.stderr

    def test_a_file_that_is_not_utf_8_is_named_with_line_and_column(self, bench):
        (bench.sites / "site1/site_config.json").write_bytes(b'{\n "a": "\xff"}')
        done = bench.run("--site", "site1", "enqueue", "acme.tasks.ping")
        assert_refused(done, 1, "site_config.json, line 2, column 8")

    def test_without_a_sites_folder_it_says_where_it_looked(self, tmp_path):
        environment = {key: value for key, value in os.environ.items() if key != "SITES_PATH"}
        done = subprocess.run(
            [sys.executable, "-m", "frappe_jobs", "queues"], cwd=tmp_path, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert_refused(done, 1, str(tmp_path))

    @pytest.mark.parametrize("command", [["enqueue", "acme.tasks.ping"], ["queues"]])
    def test_a_broker_that_is_down_is_one_line_and_69(self, make_bench, command):
        bench = make_bench(redis_queue="redis://:s3cret@127.0.0.1:1/0")
        done = bench.run("--site", "site1", *command)
        assert done.returncode == 69
        assert "redis://:***@127.0.0.1:1/0" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "s3cret" not in done.stdout + done.stderr

    def test_a_database_that_is_out_of_reach_is_one_line_and_69(self, bench):
        config = {"frappe_jobs_database_url": "postgresql+psycopg://u:s3cret@127.0.0.1:1/x"}
        bench.write("site1/site_config.json", config)
        done = bench.run("--site", "site1", "execute", "acme.tasks.install")
        assert done.returncode == 69
        assert "127.0.0.1:1" in done.stderr and "out of reach" in done.stderr
        assert "Traceback" not in done.stderr
        assert "s3cret" not in done.stdout + done.stderr

    def test_an_unknown_queue_for_a_worker_is_wrong_usage(self, bench):
        done = bench.run("worker", "--queue", "short,nope")
        assert_refused(done, 2, "'nope'; known: short, default, long")


class TestSetup:
    def test_the_procfile_has_a_worker_for_each_queue(self, make_bench):
        bench = make_bench(
            workers={"reports": {"timeout": 9, "background_workers": 4}, "a.b": {}},
            background_workers=2,
        )
        assert bench.run("setup", "procfile").stdout == (
            "worker_short: frappe-jobs worker --queue short --concurrency 2\n"
            "worker_default: frappe-jobs worker --queue default --concurrency 2\n"
            "worker_long: frappe-jobs worker --queue long --concurrency 2\n"
            "worker_reports: frappe-jobs worker --queue reports --concurrency 4\n"
            "worker_a_b: frappe-jobs worker --queue a.b --concurrency 2\n"
            "scheduler: frappe-jobs schedule\n"
        )

    def test_the_procfiles_names_are_unique(self, make_bench):
        bench = make_bench(workers={"a.b": {}, "a_b": {}, "a_b_2": {}})
        lines = bench.run("setup", "procfile").stdout.splitlines()
        assert {line.rpartition(" ")[2]: line.partition(":")[0] for line in lines[3:-1]} == {
            "a.b": "worker_a_b_3", "a_b": "worker_a_b", "a_b_2": "worker_a_b_2",
        }  # fmt: skip

    def test_a_file_that_cannot_be_written_is_said(self, bench):
        done = bench.run("setup", "procfile", "--output", "nowhere/Procfile")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ") and "cannot be written" in done.stderr

    def test_a_file_is_written_over_only_when_asked(self, bench):
        assert bench.run("setup", "procfile", "--output", "Procfile").returncode == 0
        file = bench.path / "Procfile"
        file.write_text("mine")
        assert bench.run("setup", "procfile", "--output", "Procfile", input="n\n").returncode == 1
        assert file.read_text() == "mine"
        bench.run("setup", "procfile", "--output", "Procfile", "--yes")
        assert file.read_text().startswith("worker_short: ")

    def test_systemd_gets_a_file_for_each_process(self, bench):
        units = bench.path / "units"
        units.mkdir()
        assert bench.run("setup", "systemd", "--output", str(units)).returncode == 0
        named = f"frappe-jobs-{bench.id}"
        assert sorted(file.name.removeprefix(named) for file in units.iterdir()) == [
            "-scheduler.service", "-worker_default.service", "-worker_long.service",
            "-worker_short.service", ".target",
        ]  # fmt: skip
        [asked] = [bench.run("setup", "systemd", "--output", str(units), input="n\n")]
        assert "Overwrite" in asked.stdout and asked.returncode == 1

    @pytest.mark.parametrize("what", ["supervisor", "systemd"])
    def test_a_setting_of_this_shell_alone_is_said(self, bench, what):
        bench.variables["FRAPPE_REDIS_QUEUE"] = "redis://:secret@127.0.0.1:6379"
        done = bench.run("setup", what, "--user", "nobody")
        assert done.returncode == 0 and "user=nobody" in done.stdout.lower()
        assert "not in the file: FRAPPE_REDIS_QUEUE" in done.stderr
        assert "secret" not in done.stdout + done.stderr

    @pytest.mark.parametrize("what", ["procfile", "supervisor", "systemd"])
    def test_a_frappe_bench_keeps_its_own_files(self, bench, what):
        bench.write("apps.txt", "frappe\nfrappe_jobs\n")
        bench.variables["PYTHONPATH"] = str(ROOT / "tests/stand_in")
        assert_refused(bench.run("setup", what), 1, f"what 'bench setup {what}' writes starts our")

    def test_the_repositorys_procfile_is_that_of_the_default_bench(self, bench):
        assert (ROOT / "Procfile").read_text() == bench.run("setup", "procfile").stdout

    def test_the_repositorys_procfile_runs_under_honcho(self, bench, forker):
        bin = forker.write_command(bench.path / "bin" / "frappe-jobs").parent
        honcho = subprocess.Popen(
            [Path(sys.executable).with_name("honcho"), "-f", ROOT / "Procfile", "-d", bench.path,
             "start"],
            env=bench.environment | {"PATH": f"{bin}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            with frappe.site("site1"):
                jobs = [
                    frappe.enqueue(tasks.whoami, queue) for queue in ("short", "default", "long")
                ]
                assert [job.wait(30)[3] for job in jobs] == ["short", "default", "long"]
        finally:
            honcho.send_signal(signal.SIGTERM)
            said, _ = honcho.communicate(timeout=30)
        assert "Traceback" not in said
        assert said.count(" ready") >= 4


class TestEmbedded:
    def test_it_runs_when_asked_for_and_other_shells_find_it(self, make_bench):
        bench = make_bench(redis_queue=None)
        assert_refused(bench.run("queues"), 1, "--embedded")
        assert "No embedded server" in bench.run("embedded", "status").stdout
        try:
            with bench.worker_of("--embedded", "worker", "--queue", "default"):
                arguments = ("--site", "site1", "enqueue", "acme.tasks.ping", "--wait")
                assert bench.run("--embedded", *arguments).stdout == '"pong"\n'
                place = bench.sites / ".frappe_jobs/server.sock"
                assert f"unix://{place}" in bench.run("embedded", "status").stdout
        finally:
            assert "is stopped" in bench.run("embedded", "stop").stdout
        assert "No embedded server" in bench.run("embedded", "status").stdout

    def test_what_it_holds_survives_its_restart(self, make_bench):
        bench = make_bench(redis_queue=None)
        try:
            for _ in range(2):
                bench.run("--embedded", "--site", "site1", "enqueue", "acme.tasks.ping")
                bench.run("embedded", "stop")
            rows = json.loads(bench.run("--embedded", "queues", "--format", "json").stdout)
            assert rows[1]["depth"] == 2
        finally:
            bench.run("embedded", "stop")


class TestCelery:
    def test_celery_finds_the_app(self, bench):
        celery = Path(sys.executable).with_name("celery")
        worker = subprocess.Popen(
            [celery, "-A", "frappe_jobs", "worker", "-c", "1", "-l", "debug"], cwd=bench.path,
            env=bench.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            with frappe.site("site2"):
                assert frappe.enqueue(tasks.whoami).wait(30)[0] == "site2"
                job = frappe.enqueue(tasks.work, seconds=60, timeout=2)
            wait_until(lambda: job.get_status() == "started", 10)
        finally:
            os.killpg(worker.pid, signal.SIGTERM)
            _, said = worker.communicate(timeout=30)
        # It stops as a worker of ours does.
        assert (job.get_status(), job.reason) == ("failed", "timed out after 2 s")
        for step in ("FinishReading", "TakeSignals", "Drain", "DropTimers", "LeaseKeeper"):
            assert re.search(rf"boot order: .*\b{step}\b", said), step

    def test_the_celeryconfig_holds_the_benchs_settings(self, bench, monkeypatch):
        monkeypatch.setenv("SITES_PATH", str(bench.sites))
        monkeypatch.syspath_prepend(str(ROOT))
        from celery import Celery

        app = Celery("team", set_as_current=False)
        app.config_from_object("celeryconfig")
        assert [queue.name for queue in app.conf.task_queues] == [
            f"{bench.id}:{name}" for name in ("short", "default", "long")
        ]
        assert app.conf.accept_content == ["json"]

    def test_the_celeryconfig_is_no_other_celerys(self, tmp_path, monkeypatch):
        # An editable install has its folder on the path, where Celery's default app looks.
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "celeryconfig", raising=False)
        with pytest.raises(ImportError, match="in their folder"):
            importlib.import_module("celeryconfig")


def assert_refused(done, status, said):
    """One clear sentence on standard error, no traceback, the exit status for scripts."""
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
