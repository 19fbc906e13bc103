"""What stands in the configuration files and has no effect there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches

from frappe_jobs.brokers.base import Broker
from frappe_jobs.brokers.environment import overruled
from frappe_jobs.config import Settings, settings_table, variable
from frappe_jobs.errors import ConfigError
from frappe_jobs.host.port import ADMINISTRATOR
from frappe_jobs.limits.declared import declared
from frappe_jobs.message import Message
from frappe_jobs.servers.in_force import SettingsInForce
from frappe_jobs.sites_folder import COMMON_CONFIG, SITE_CONFIG, WEIGHT, read_common, read_object
from frappe_jobs.texts.finding import Finding

#: Begins the name of each setting that is ours alone.
OURS = "frappe_jobs_"
#: Our settings that belong to a site.
SITE_KEYS = ("frappe_jobs_database_url", WEIGHT)


def check_configuration(settings: SettingsInForce, sites: Iterable[str]) -> Iterator[Finding]:
    """The bench, and keys of ours that nothing reads."""
    queues = ", ".join(settings.queues)
    yield Finding("ok", f"The bench is {settings.bench_id!r}; its queues are {queues}.")
    known = [item.metadata["key"] for item in settings_table()]
    path = str(settings.sites_path / COMMON_CONFIG)
    yield from _unknown(path, read_common(settings.sites_path), [*known, *SITE_KEYS])
    for site in sites:
        yield from _of_site(settings, site, known)
    for finding in overruled(settings):
        yield Finding("warning", finding.what, finding.cure)


def _of_site(settings: Settings, site: str, known: list[str]) -> Iterator[Finding]:
    path = settings.sites_path / site / SITE_CONFIG
    try:
        keys = read_object(path)
    except ConfigError:  # is among the findings about the site
        return
    misplaced = [key for key in keys if key.startswith(OURS) and key in known]
    for key in misplaced:
        what = f"{path}: {key!r} is a setting of the bench, and has no effect on one site."
        yield Finding("warning", what, f"Move it to {COMMON_CONFIG}.")
    yield from _unknown(str(path), set(keys) - set(misplaced), SITE_KEYS)
    try:
        settings.sites.weight(site)
    except ConfigError as error:
        yield Finding("error", str(error))


def _unknown(path: str, keys: Iterable[str], known: Iterable[str]) -> Iterator[Finding]:
    legal = [key for key in known if key.startswith(OURS)]
    for key in sorted(set(keys)):
        if key.startswith(OURS) and key not in legal:
            near = get_close_matches(key, legal, n=1, cutoff=0.0)
            what = f"{path}: {key!r} is no setting, so it has no effect."
            yield Finding("warning", what, f"Write {near[0]!r}, or see frappe-jobs settings.")


def check_limits(settings: Settings) -> Iterator[Finding]:
    """What apps' hooks and the configuration declare of limits, and is not in force."""
    found = declared(settings, checks_methods=True)
    for text in found.wrong:
        yield Finding("error", text, "Mend it; workers read it again within half a minute.")
    if found.rules:
        yield Finding("ok", f"Limits hold for: {', '.join(found.rules)}.")


def check_alerts(targets: Callable[[], Sequence[str]] | None) -> Iterator[Finding]:
    """Whether alerts have somewhere to go."""
    named = next(item for item in settings_table() if item.name == "alerts").metadata["key"]
    if variable(named) in os.environ:
        what = f"{variable(named)} is set, and not read: targets of alerts come from one place."
        yield Finding("warning", what, f"Unset it; write {named!r} into {COMMON_CONFIG}.")
    if targets is None:
        return
    try:
        yield Finding("ok", f"Alerts go to: {', '.join(targets())}.")
    except ConfigError as error:
        what = f"{error} No alert is said."
        yield Finding("error", what, "See the page on monitoring, and start the workers anew.")


def check_guest(settings: SettingsInForce, broker: Broker) -> Iterator[Finding]:
    """The promises that a team's own Celery app and its workers break."""
    if not settings.is_guest and not settings.guests:
        return
    broken = dict.fromkeys(
        text
        for queue in settings.queues.values()
        for at_front in (False, True)
        for text in broker.broken_promises(_example(queue.name, queue.timeout, at_front))
    )
    for text in filter(None, [*broken, broker.unfair(settings.queues)]):
        yield Finding("warning", text)
    if settings.is_guest and not broken:
        yield Finding("ok", f"The team's Celery app ({settings.celery_app}) keeps every promise.")


def _example(queue: str, timeout: int, at_front: bool) -> Message:
    """A job such as may be sent to that queue."""
    name = "A job at the front" if at_front else f"A job of the queue {queue!r}"
    return Message(
        id="", job_id="", site="", user=ADMINISTRATOR, method="", queue=queue, name=name,
        timeout=timeout, enqueued_at=time.time(), at_front=at_front,
    )  # fmt: skip
