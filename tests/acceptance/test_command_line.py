"""What helps who types: the nearest name, Tab, a prompt, a worker that follows the code, a bar."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from acme import tasks
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import frappe_jobs as frappe
from frappe_jobs.cli import main
from frappe_jobs.errors import MethodNotAllowed, MethodNotFound, SiteNotFound, UnknownQueue
from frappe_jobs.testing import wait_until


def said(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    return done.output


class TestDidYouMean:
    @pytest.mark.parametrize(
        "words, meant",
        [
            (["worke"], "'worker'"),
            (["jobs", "lst"], "'list'"),
            (["scheduler", "puase"], "'pause'"),
            (["scheduled-jobs", "delte"], "'delete'"),
            (["setup", "procfil"], "'procfile'"),
            (["check", "workr"], "'worker'"),
            (["embedded", "sotp"], "'stop'"),
            (["queues", "--site", "sit1"], "'site1'"),
            (["purge-jobs", "--queue", "shrot"], "'short'"),
        ],
    )
    def test_on_the_command_line(self, bench, words, meant):
        words = ["show-pending-jobs", *words[1:]] if words[0] == "queues" else words
        assert f"Did you mean {meant}" in said(*words)

    def test_nothing_is_meant_by_what_is_like_nothing(self, bench):
        assert "Did you mean" not in said("xyzzy") + said("purge-jobs", "--queue", "xyzzy")

    def test_in_a_program(self, bench):
        with frappe.site("site1"):
            for method, error, meant in (
                ("acme.tasks.pnig", MethodNotFound, "'ping'"),
                ("acme.task.ping", MethodNotFound, "'tasks'"),
                ("acne.tasks.ping", MethodNotAllowed, "'acme'"),
            ):
                with pytest.raises(error, match=rf"Did you mean {meant}"):
                    frappe.enqueue(method)
            with pytest.raises(UnknownQueue, match="Did you mean 'long'"):
                frappe.enqueue(tasks.ping, "lnog")
        with pytest.raises(SiteNotFound, match="Did you mean 'site1'"), frappe.site("ste1"):
            pass


def completed(*words: str, last: str = "") -> dict[str, str | None]:
    shell = ShellComplete(main, {}, "frappe-jobs", "_FRAPPE_JOBS_COMPLETE")
    return {item.value: item.help for item in shell.get_completions([*words], last)}


class TestCompletion:
    def test_sites(self, bench):
        assert [*completed("jobs", "list", "--site")] == ["site1", "site2", "all"]
        assert [*completed("--site", last="site2")] == ["site2"]

    def test_queues_also_behind_a_comma(self, bench):
        assert [*completed("worker", "--queue", last="s")] == ["short"]
        assert completed("worker", "--queue", last="short,d") == {"short,default": "timeout 300 s"}
        assert "short,short" not in completed("purge-jobs", "--queue", last="short,")
        assert [*completed("jobs", "list", "--queue")] == ["short", "default", "long"]
        assert [*completed("enqueue", "--queue", last="l")] == ["long"]

    def test_methods_without_importing_them(self, bench):
        trap = bench.path / "acme/trap.py"
        trap.write_text("raise SystemExit(1)\n\ndef sprung(x):\n    pass\n")
        assert [*completed("enqueue", last="acme.tasks.pi")] == ["acme.tasks.ping"]
        assert [*completed("jobs", "list", "--method", last="acme.once.deposit_and_re")] == [
            "acme.once.deposit_and_return"
        ]
        assert "acme.tasks.echo" in completed("execute", last="acme")
        assert not [path for path in completed("execute", last="acme") if "._" in path]

    def test_jobs_and_scheduled_jobs_of_the_site_that_is_named(self, bench):
        for number in (1, 2):
            with frappe.site(f"site{number}"):
                frappe.enqueue(tasks.ping, job_id=f"mine-{number}")
        assert completed("jobs", "show", "--site", "site2") == {"mine-2": "queued acme.tasks.ping"}
        assert [*completed("jobs", "cancel", last="mine-")] == ["mine-2", "mine-1"]
        assert completed("jobs", "wait", last="other") == {}
        record = {"method": "acme.tasks.often", "frequency": "Daily", "name": "often"}
        with frappe.site("site1"):
            name = frappe.new_doc("Scheduled Job Type", **record).insert().name
        assert completed("scheduled-jobs", "show", "--site", "site1") == {
            name: "acme.tasks.often Daily"
        }

    def test_whatever_is_wrong_offers_nothing(self, bench, tmp_path, monkeypatch):
        bench.write("common_site_config.json", "no JSON")
        assert completed("worker", "--queue") == {}
        monkeypatch.setenv("SITES_PATH", str(tmp_path / "nowhere"))
        assert completed("jobs", "show") == completed("--site") == {}

    def test_in_bash_zsh_and_fish(self, bench, forker, tmp_path):
        command = forker.write_command(tmp_path / "frappe-jobs")
        script = f"""
            PATH={command.parent}:$PATH
            eval "$(_FRAPPE_JOBS_COMPLETE=bash_source frappe-jobs)"
            COMP_WORDS=(frappe-jobs worker --queue short,d) COMP_CWORD=3
            _frappe_jobs_completion frappe-jobs
            echo "${{COMPREPLY[@]}}"
            unset COMP_WORDS
            export COMP_WORDS="frappe-jobs worker --queue short,d" COMP_CWORD=3
            _FRAPPE_JOBS_COMPLETE=zsh_complete frappe-jobs
            COMP_CWORD=short,d _FRAPPE_JOBS_COMPLETE=fish_complete frappe-jobs
        """
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env=bench.environment
        )
        assert done.stdout.split() == (
            "short,default plain short,default timeout 300 s plain,short,default timeout 300 s"
        ).split(), done.stderr  # fmt: skip


class TestShell:
    def test_the_api_is_there_with_the_site_open(self, bench):
        code = "print(local.site, session.user, frappe.Retry(2).max, sorted(conf)[:1])"
        done = bench.run("shell", "--site", "site2", "--user", "ada@acme.test", "-c", code)
        assert (done.stdout, done.stderr) == ("site2 ada@acme.test 2 ['bench_id']\n", "")

    def test_a_prompt_forgets_what_was_not_committed(self, bench):
        lines = """
import acme.tasks
acme.tasks.install()
_ = new_doc("Account", name="kept").insert()
db.commit()
_ = new_doc("Account", name="lost").insert()
print([row["name"] for row in get_all("Account")])
1 / 0
exit()
"""
        done = bench.run("shell", "--site", "site1", "--plain", input=lines)
        assert "['kept', 'lost']" in done.stdout and "ZeroDivisionError" in done.stderr
        assert done.returncode == 0
        assert "site1, as Administrator. What you do not commit" in done.stderr
        with frappe.site("site1"):
            assert frappe.get_all("Account") == [{"name": "kept"}]

    def test_the_prompt_is_ipythons_where_that_is_installed(self, bench, tmp_path):
        pytest.importorskip("IPython", reason="IPython is not installed.")
        bench.variables |= {"IPYTHONDIR": str(tmp_path), "TERM": "dumb"}
        lines = "print(local.site, frappe.Retry(2).max)\nget_ipython().__class__.__name__\nexit()\n"
        done = bench.run("shell", "--site", "site1", input=lines)
        assert "site1 2" in done.stdout and "TerminalInteractiveShell" in done.stdout
        assert "site1, as Administrator. What you do not commit" in done.stdout
        assert done.returncode == 0

    def test_it_is_for_one_site(self, bench):
        assert "name it with --site" in bench.run("shell", "--site", "all", "-c", "1").stderr


def test_a_worker_follows_the_code(bench):
    bench.starts_cold = True
    file = bench.path / "acme/tasks.py"
    text = file.read_text()
    with bench.worker("--reload") as worker, frappe.site("site1"):
        assert frappe.enqueue(tasks.ping).wait(20) == "pong"
        file.write_text(text.replace('"pong"', '"from the changed file"'))
        wait_until(lambda: "begun anew" in worker.log, 10)
        assert frappe.enqueue(tasks.ping).wait(20) == "from the changed file"
        assert worker.stop() == 0


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_bar_on_a_terminal_and_plain_lines_elsewhere(bench, on_a_terminal):
    with frappe.site("site1"):
        frappe.enqueue_many({"method": tasks.ping} for _ in range(3))
    terminal, stderr = pty.openpty() if on_a_terminal else os.pipe()
    said = ""
    for words in (["migrate", "--site", "all"], ["purge-jobs", "--site", "all", "--yes"]):
        process = bench.popen(*words, stderr=stderr)
        assert process.wait(20) == 0
    os.close(stderr)
    try:
        while part := os.read(terminal, 65536):
            said += part.decode()
    except OSError:  # so a terminal ends
        pass
    os.close(terminal)
    assert ("2/2" in said and "3/3" in said) == on_a_terminal
    assert bool(said) == on_a_terminal


def test_each_help_names_a_page_that_is_there(bench):
    root = Path(__file__).parents[2]
    for name in main.list_commands(None):
        page = main.get_command(None, name).epilog.removeprefix("More: ")
        assert (root / page).is_file(), name
