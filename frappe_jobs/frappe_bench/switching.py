"""A bench goes from RQ to Celery, or back, while it works.

Each step looks at what is, so whoever was killed in the middle calls it again.  What this prints is
for whoever restarts the bench's processes meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import click
import frappe
from rq.job import JobStatus

from frappe_jobs.doctor.text import number
from frappe_jobs.errors import FrappeJobsError
from frappe_jobs.frappe_bench import installed, way_in
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.frappe_bench.rq import transport
from frappe_jobs.frappe_bench.rq.carry_over import carry_over
from frappe_jobs.frappe_bench.rq.queue import require_broker
from frappe_jobs.ledger.rq import SeenOfRQ, look_at_rq

#: Seconds between two looks, until the first line that says what is waited for, and to the next.
PAUSE, FIRST, SAID = 0.5, 2.0, 10.0
#: Seconds in which a worker of RQ's that can take a job takes one.
TAKES = 10.0
#: How many of an error's last characters are shown.
TAIL = 2000


def to_celery(sites_path: Path, within: float) -> None:
    """Install the app on each site, switch, drain RQ, see the restart through, run a job.

    ``within``: seconds for each thing that is waited for.  Raises FrappeJobsError; then nothing is
    lost, and the next call goes on.
    """
    _step(1, "Prepare. Nothing changes for jobs and those who run them.")
    if way_in.state(sites_path) == "undecided":
        way_in.switch_off(sites_path)  # so that no install switches it
    _install_on_sites(sites_path)
    require_broker()
    _step(2, "Switch. New jobs go to Celery from now on; RQ's workers run what waits for them.")
    way_in.begin(sites_path, "on")
    transport.install()
    _drain_rq(within)
    _tell_to_restart(3, sites_path)
    _until(_not_yet_ours, within)
    refused = _drain_rq(within)
    way_in.complete(sites_path)
    _run_a_job_on_each_queue(4, within)
    if refused:
        raise FrappeJobsError(
            f"What cannot be carried over (above) stays on RQ: {number(len(refused), 'job')}. To "
            "have RQ run it: bench use-celery off; bench worker --burst; bench use-celery on "
            "--drain."
        )


def to_rq(sites_path: Path, within: float) -> None:
    """Switch back, have our workers run what waits, see the restart through, run a job.

    As ``to_celery``.
    """
    here = runtime()
    if here.timetable.leader():
        _step(1, "Stop bench schedule, so that nothing is queued twice. "
              f"Supervisor: supervisorctl stop {_name(sites_path)}-workers:"
              f"{_name(sites_path)}-frappe-schedule")  # fmt: skip
        _until(lambda: here.timetable.leader() and "a scheduler of ours leads", within)
    _step(2, "Switch. New jobs go to RQ from now on; our workers run what waits for them.")
    way_in.begin(sites_path, "off")
    _until(partial(_left_on_celery, sites_path), within)
    _tell_to_restart(3, sites_path)
    _until(_not_yet_rqs, within)
    _until(partial(_left_on_celery, sites_path), within)
    way_in.complete(sites_path)
    transport.uninstall()
    _run_a_job_on_each_queue(4, within)
    if later := here.ledger.count_delayed(here.settings.queues).delayed:
        raise FrappeJobsError(
            f"RQ's workers run no jobs for later, so on Celery there stays {number(later, 'job')}: "
            "frappe-jobs jobs list shows what, and after bench use-celery on it runs."
        )


# --- to Celery


def _install_on_sites(sites_path: Path) -> None:
    for site, has_it in installed.by_site().items():
        if has_it is None:
            click.echo(f"  {site} cannot be asked, and is left as it is.")
        elif not has_it:
            click.echo(f"  Install {installed.APP} on {site}.")
            _run(sites_path, "frappe.utils.bench_helper", "frappe", "--site", site, "install-app",
                 installed.APP)  # fmt: skip


def _drain_rq(within: float) -> list[str]:
    """Let RQ's workers run what waits, then carry over what is left; the ids of what cannot be.

    They are not waited for once they take no more: they may be stopped, or all be busy.
    """
    end, least, since = time.monotonic() + within, sys.maxsize, time.monotonic()

    def left() -> str:
        nonlocal least, since
        seen, now = _on_rq(), time.monotonic()
        waiting = sum(seen.waiting.values())
        if waiting < least:
            least, since = waiting, now
        is_over = not seen.workers or now > end or now - since > TAKES
        return "" if is_over or not waiting else f"on RQ there wait {number(waiting, 'job')}"

    _until(left, within + TAKES)
    carried = carry_over()
    click.echo(f"  Carried over from RQ: {number(carried.count, 'job')}.")
    for job_id, why in carried.refused.items():
        click.echo(f"  {job_id} stays on RQ: {why}")
    return [*carried.refused]


def _on_rq() -> SeenOfRQ:
    settings = runtime().in_force
    seen = look_at_rq(
        settings.redis_queue or settings.redis_url, settings.bench_id, settings.queues
    )
    if seen is None:
        raise FrappeJobsError("What waits on RQ cannot be read: is its Redis there?")
    return seen


def _not_yet_ours() -> str:
    here, missing = runtime(), []
    served = {queue for worker in here.broker.workers() for queue in worker.queues}
    if unserved := [queue for queue in here.settings.queues if queue not in served]:
        missing.append(f"no worker of ours serves {', '.join(unserved)}")
    if not here.timetable.leader():
        missing.append("no scheduler of ours leads")
    if workers := _on_rq().workers:
        missing.append(f"RQ's worker {workers[0]} still runs, or was killed within 8 minutes")
    return "; ".join(missing)


# --- to RQ


def _left_on_celery(sites_path: Path) -> str:
    """What waits or runs there; where no worker of ours is left, one is started that runs it."""
    here = runtime()
    counts = here.listing.count_open_by_site(here.host.sites()).values()
    waiting, running = sum(one for one, _ in counts), sum(one for _, one in counts)
    waiting -= here.ledger.count_delayed(here.settings.queues).delayed
    if waiting > 0 and not here.broker.workers():
        click.echo(f"  No worker of ours is left: one begins that runs {number(waiting, 'job')}.")
        _run(sites_path, "frappe_jobs", "worker", "--burst")
    if waiting <= 0 and not running:
        return ""
    return f"on Celery there wait {number(max(0, waiting), 'job')}, and {running} run"


def _not_yet_rqs() -> str:
    missing = []
    if ours := runtime().broker.workers():
        missing.append(f"our worker {ours[0].name} still runs")
    if not _on_rq().workers:
        missing.append("no worker of RQ's runs")
    return "; ".join(missing)


# --- both


def _step(number: int, text: str) -> None:
    click.echo(f"{number}. {text}")


def _name(sites_path: Path) -> str:
    """The bench's, of which bench makes the names of its processes."""
    return sites_path.parent.name


def _tell_to_restart(number: int, sites_path: Path) -> None:
    name = _name(sites_path)
    _step(number, "Restart, in this order: the workers (bench worker, worker-pool), bench "
          f"schedule, the web processes. Supervisor: supervisorctl restart {name}-workers: "
          f"{name}-web:")  # fmt: skip


def _until(left: Callable[[], str | None | bool], within: float) -> None:
    """Wait until nothing is left; says what is; raises FrappeJobsError when the time is over."""
    end, said_at = time.monotonic() + within, time.monotonic() + FIRST - SAID
    while why := left():
        if time.monotonic() > end:
            raise FrappeJobsError(
                f"After {within:.0f} s {why}. No job is lost: see to that, and call the same "
                "command again, which goes on from here."
            )
        if time.monotonic() - said_at >= SAID:
            said_at = time.monotonic()
            click.echo(f"  Waiting: {why}.")
        Event().wait(PAUSE)


def _run_a_job_on_each_queue(number: int, within: float) -> None:
    here = runtime()
    _step(number, "Run a job on each queue.")
    [site, *_] = here.host.sites()
    for queue in here.settings.queues:
        began = time.monotonic()
        with here.host.session(site):
            job = frappe.enqueue("frappe.ping", queue=queue)
            _until(partial(_not_finished, job, queue), within)
        click.echo(f"  {queue}: ran after {time.monotonic() - began:.1f} s.")


def _not_finished(job: object, queue: str) -> str:
    status = job.get_status()  # type: ignore[attr-defined]
    if status == JobStatus.FAILED:
        raise FrappeJobsError(f"frappe.ping failed on the queue {queue}.")
    return "" if status == JobStatus.FINISHED else f"the job on {queue} has not run"


def _run(sites_path: Path, *module: str) -> None:
    """A command in a process of its own; raises FrappeJobsError with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", *module], cwd=sites_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        said = done.stdout.strip()[-TAIL:]
        raise FrappeJobsError(f"{' '.join(module[1:])} ended with {done.returncode}: {said}")
