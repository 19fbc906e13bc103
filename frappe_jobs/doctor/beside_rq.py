"""A Frappe bench between RQ and Celery: where its jobs go, and whose workers run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from frappe_jobs.config import Settings
from frappe_jobs.doctor.asking import ask_each
from frappe_jobs.doctor.text import names, number, of_sites
from frappe_jobs.host.port import Host
from frappe_jobs.ledger.rq import SeenOfRQ, look_at_rq
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import APPS, DRAINING, app_names, read_common, version_of
from frappe_jobs.texts.finding import Finding

APP = "frappe_jobs"
RESTART = "restart the bench's web, worker and schedule processes"


def check_beside_rq(
    settings: SettingsInForce,
    host: Host,
    sites: Iterable[str],
    state: str,
    ours: int | None,
    faults: Sequence[str],
) -> Iterator[Finding]:
    """All findings; ``ours``: how many of our workers are online, None if that is unknown.

    ``faults``: what keeps the bench's processes from sending jobs to Celery.
    """
    url = settings.redis_queue or settings.redis_url
    rq = look_at_rq(url, settings.bench_id, settings.queues)
    yield from check_switch(state, ours, rq, faults)
    yield from check_draining(settings, "off" if state == "off" else "on")
    if state != "off":  # else nothing of ours is expected
        yield from check_installed(settings, ask_each(sites, partial(_has_our_hooks, host)))
        yield from check_rq_auth(settings)


def _has_our_hooks(host: Host, site: str) -> bool:
    """True if that cannot be told: the site has a finding of its own then."""
    try:
        hooks = host.methods.hooks("after_migrate", site)
    except Exception:
        return True
    return any(path.startswith(f"{APP}.") for path in hooks)


def check_switch(
    state: str, ours: int | None, rq: SeenOfRQ | None, faults: Sequence[str] = ()
) -> Iterator[Finding]:
    """Where the jobs go, and whether the workers that run are of the same kind."""
    if state == "on":
        for fault in faults:
            what = f"use-celery is on, and yet not all of Frappe goes to Celery: {fault}."
            cure = f"Mend that, or bench use-celery off; then {RESTART}."
            yield Finding("error", what, cure)
        if not faults:
            yield Finding("ok", "The bench's jobs go to Celery.")
        yield from _on_celery(ours, rq)
    else:
        yield from _on_rq(state, ours, rq)


def _on_celery(ours: int | None, rq: SeenOfRQ | None) -> Iterator[Finding]:
    if not rq:
        return
    waiting = number(sum(rq.waiting.values()), "job")
    if rq.waiting and not rq.workers:
        what = f"Jobs wait in RQ's queues, and no worker runs them any more: {_queues(rq)}."
        cure = "bench use-celery on --drain carries them over."
        yield Finding("error", what, cure)
    if rq.workers:
        who = f"{number(len(rq.workers), 'worker')} of RQ ({names(rq.workers)})"
        if ours == 0:
            what = f"The jobs go to Celery, but only RQ's are run: {who} online, none of ours."
            cure = f"Stop what runs there since before the switch: {RESTART}."
            yield Finding("error", what, cure)
        else:
            left = f"; {waiting} of RQ's wait" if rq.waiting else "; they have nothing to do"
            yield Finding(
                "warning", f"Still running beside ours: {who}{left}.", "Stop them when idle."
            )


def _on_rq(state: str, ours: int | None, rq: SeenOfRQ | None) -> Iterator[Finding]:
    said = "bench use-celery is off" if state == "off" else "bench use-celery was never called"
    where = f"{said}: the bench's jobs go to RQ"
    if not ours:
        yield Finding("ok", f"{where}.{_on_rqs_side(rq)}")
        return
    what = f"{where}, none to the {number(ours, 'worker')} of ours online"
    alone = rq is not None and not rq.workers
    what += ", and RQ has none online: no job runs." if alone else "."
    cure = f"bench use-celery on, and {RESTART}; or stop ours."
    yield Finding("error" if alone else "warning", what, cure)


def _on_rqs_side(rq: SeenOfRQ | None) -> str:
    if not rq:
        return ""
    wait = f"jobs that wait there: {_queues(rq)}" if rq.waiting else "no job waits there"
    return f" RQ's workers online: {len(rq.workers)}; {wait}."


def _queues(rq: SeenOfRQ) -> str:
    return ", ".join(f"{queue} {count:,}" for queue, count in rq.waiting.items())


def check_draining(settings: Settings, wanted: str) -> Iterator[Finding]:
    """Whether a switch was begun and did not come to its end."""
    if read_common(settings.sites_path).get(DRAINING):
        where = "RQ" if wanted == "on" else "Celery"
        what = f"A switch was begun and has not come to its end: jobs may wait on {where}."
        yield Finding("warning", what, f"bench use-celery {wanted} --drain goes on from there.")


def check_installed(settings: Settings, installed: Mapping[str, bool]) -> Iterator[Finding]:
    """Whether Frappe knows of us: in apps.txt, and on each site that answered."""
    path = f"{settings.sites_path}/{APPS}"
    if APP not in app_names(path, version_of(path)):
        what = f"{path} does not name {APP}: bench worker and bench schedule are still RQ's."
        yield Finding("error", what, f"echo {APP} >> {path}")
        return
    missing = {
        site: f"{APP} is not installed there: a changed Scheduled Job Type counts only minutes "
        "later, the Desk's job pages show RQ's, and nothing can be tracked."
        for site, there in installed.items() if not there
    }  # fmt: skip
    yield from of_sites(
        "warning", missing, f"do not have {APP} installed",
        lambda site: f"bench --site {site} install-app {APP}",
    )  # fmt: skip


def check_rq_auth(settings: SettingsInForce) -> Iterator[Finding]:
    """Frappe's own Redis users may touch RQ's keys only."""
    if not read_common(settings.sites_path).get("use_rq_auth"):
        return
    url = settings.redis_url
    user = url.partition("://")[2].rpartition("@")[0].partition(":")[0]
    if not user or user == settings.bench_id:
        which = f"as {user!r}, which may touch rq:* alone" if user else "without a user's name"
        what = f"'use_rq_auth' is on, and frappe_jobs logs in to its Redis {which}."
        cure = (
            "Make a user of ours (frappe-jobs setup rights prints how), and name it: "
            '"celery_broker_url": "redis://frappe_jobs:PASSWORD@HOST:PORT".'
        )
        yield Finding("warning", what, cure)
