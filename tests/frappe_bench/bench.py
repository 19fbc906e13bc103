"""A real Frappe bench, its own Python, its commands as its people type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frappe_jobs.testing import wait_until

APPS = Path(__file__).parent / "apps"
#: What a piece of code gives is in its last line, after this.
ANSWER = "answer: "
#: Seconds in which a command ends: ERPNext's sites take long to migrate, or to install an app on.
LONGEST = 400

OPENED = """
import json, frappe
frappe.init(site={site!r}, sites_path="."); frappe.connect(); frappe.set_user({user!r})
answer = None
{code}
frappe.db.commit()
print({answer!r} + json.dumps(answer, default=str))
frappe.destroy()
"""

#: Whether Frappe keeps Background Tasks itself.
FRAPPES_TASKS = (
    "answer = frappe.db.get_value('DocType', 'Background Task', 'module') != 'Frappe Jobs'"
)

#: Begins a piece of code that waits for jobs.
WAIT = """
import time
def wait(job, *states):
    end = time.time() + 30
    while time.time() < end:
        if str(job.get_status().value) in (states or ("finished", "failed", "stopped", "canceled")):
            return job
        time.sleep(0.02)
    raise AssertionError(f"{job.id} is {job.get_status()}")
"""

#: Empties the queues, of all sites.
EMPTY = """
from frappe.utils import background_jobs as jobs
for name in ("short", "default", "long"):
    jobs.get_queue(name).empty()
"""

#: Removes the probe's scheduled jobs, of this site.
CLEAR = """
of_probe = {'method': ('like', 'probe.%')}
for name in frappe.get_all('Scheduled Job Type', of_probe, pluck='name'):
    frappe.delete_doc('Scheduled Job Type', name)
frappe.db.set_default('probe_ticks', '0')
"""

#: Begins a piece of code that asks over HTTP, as the Desk does.
ASK = """
from werkzeug.test import Client
import frappe.app
site = frappe.local.site
frappe.app._site, frappe.app._sites_path = site, "."
client = Client(frappe.app.application)
def key_of(name):
    user = frappe.get_doc("User", name)
    user.api_key = user.api_key or frappe.generate_hash(length=15)
    user.api_secret = secret = frappe.generate_hash(length=15)
    user.flags.ignore_password_policy = True
    user.save(); frappe.db.commit()
    return {"Authorization": f"token {user.api_key}:{secret}"}
token = key_of("Administrator")
def ask(method, **form):
    frappe.destroy()
    data = {key: one if isinstance(one, str) else json.dumps(one) for key, one in form.items()}
    reply = client.post(f"/api/method/{method}", data=data, headers=token)
    frappe.init(site=site, sites_path="."); frappe.connect()
    return reply.json if reply.status_code == 200 else {"status": reply.status_code, **reply.json}
def listed(**filters):
    given = [["RQ Job", key, "=", value] for key, value in filters.items()]
    reply = ask("frappe.desk.reportview.get_list", doctype="RQ Job", fields=["name"], filters=given,
                order_by="modified desc", start="0", page_length="20")
    assert "message" in reply, reply
    return [[one["name"], one["status"], one["queue"], one["job_name"]] for one in reply["message"]]
"""

DESK = EMPTY + ASK


class Process:
    """A process of the bench, and what it says."""

    def __init__(
        self, bench: FrappeBench, *command: str, code: str = "", program: str = "", **variables: str
    ) -> None:
        begin = [str(bench.python), "-c", code] if code else bench.bench
        if program:
            begin = [str(bench.python.with_name(program))]
        self.process = subprocess.Popen(
            [*begin, *command], cwd=bench.sites, env=bench.environment | variables, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as pipe:
            for line in pipe:
                self.lines.append(line.rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, line: str, timeout: float = 40) -> None:
        wait_until(lambda: line in self.lines or self.process.poll() is not None, timeout)
        assert self.process.poll() is None, self.log

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reader.join(5)


class FrappeBench:
    """The bench that the tests were given, its first two sites."""

    def __init__(self, path: Path, site: str) -> None:
        self.path, self.sites, self.site = path, path / "sites", site
        self.python = path / "env" / "bin" / "python"
        assert self.python.exists(), f"{path} is no bench: there is no {self.python}"
        self.bench = [str(self.python), "-m", "frappe.utils.bench_helper", "frappe"]
        names = sorted(found.parent.name for found in self.sites.glob("*/site_config.json"))
        self.other_site = next((name for name in names if name != site), site)
        gone = ("CI", "BENCH", "SITE", "VIRTUAL_ENV")
        self.environment = {k: v for k, v in os.environ.items() if k not in gone} | {
            "PYTHONPATH": str(APPS),
            "PATH": f"{path / 'env' / 'bin'}:{os.environ['PATH']}",
        }

    @property
    def config(self) -> dict[str, Any]:
        text = (self.sites / "common_site_config.json").read_text()
        config: dict[str, Any] = json.loads(text)
        return config

    @property
    def bench_id(self) -> str:
        """As Frappe and ours make it where the configuration names none."""
        return str(self.config.get("bench_id") or str(self.path).strip("/").replace("/", "-"))

    @property
    def db_type(self) -> str:
        """The first site's: ``mariadb``, ``postgres`` or ``sqlite``."""
        config = json.loads((self.sites / self.site / "site_config.json").read_text())
        return str(config.get("db_type") or "mariadb")

    @property
    def is_on_rabbitmq(self) -> bool:
        return str(self.config.get("celery_broker_url")).startswith("amqp")

    def write_config(self, config: dict[str, Any]) -> None:
        (self.sites / "common_site_config.json").write_text(json.dumps(config, indent=1))

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command, as one types it after ``bench``, with these variables in its environment."""
        return subprocess.run(
            [*self.bench, *command], cwd=self.sites, env=self.environment | variables, text=True,
            capture_output=True, timeout=LONGEST, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def call(self, code: str, *, site: str | None = None, user: str = "Administrator") -> Any:
        """Run the code with the site open, in a process of its own; gives its ``answer``."""
        script = OPENED.format(site=site or self.site, user=user, code=code, answer=ANSWER)
        done = subprocess.run(
            [str(self.python), "-c", script], cwd=self.sites, env=self.environment, text=True,
            capture_output=True, timeout=LONGEST,
        )  # fmt: skip
        last = (done.stdout.splitlines() or [""])[-1]
        assert done.returncode == 0 and last.startswith(ANSWER), done.stdout + done.stderr
        return json.loads(last.removeprefix(ANSWER))

    @contextmanager
    def process(self, *command: str, code: str = "") -> Iterator[Process]:
        """A command that stays, once it says that it is ready; stopped at the end.

        With ``code`` it is that Python, with the command as its arguments.
        """
        process = Process(self, *command, code=code)
        try:
            process.wait_for("ready")
            yield process
        finally:
            process.stop()


def read_notes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
