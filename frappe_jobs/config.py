"""The bench's settings from its configuration and the environment, checked and frozen."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from frappe_jobs.errors import BadWorkers, ConfigError, UnknownQueue
from frappe_jobs.sites_folder import COMMON_CONFIG, Sites, find_sites_path, read_common
from frappe_jobs.texts.json_text import parse_json
from frappe_jobs.texts.masking import shown

DEFAULT_TIMEOUT = 300

#: Settings that were renamed, old key → new key.  The old key is read for one more version.
RENAMED: Mapping[str, str] = {}

# --- the types of values; each returns the value, or raises ValueError with what is legal


def text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return value


def whole_number(at_least: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise ValueError(f"a whole number, {at_least} or more")
        return value

    return parse


def yes_or_no(value: object) -> bool:
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise ValueError("true or false")
    return bool(value)


def one_of(*legal: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in legal:
            raise ValueError(f"one of {', '.join(legal)}")
        return str(value)

    return parse


LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True)
class Queue:
    """A queue of the bench: its time limit in seconds and how many processes serve it."""

    name: str
    timeout: int
    background_workers: int


def parse_workers(value: object) -> Mapping[str, Mapping[str, int]]:
    """Check 'workers' of common_site_config.json; raises ValueError with key and what is legal."""
    if not isinstance(value, dict):
        raise ValueError('an object such as {"reports": {"timeout": 5000}}')
    legal = {"timeout": whole_number(1), "background_workers": whole_number(1)}
    for name, entry in value.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ValueError(f"a queue's name of letters, digits, '_', '-' and '.'; not {name!r}")
        if not isinstance(entry, dict):
            raise ValueError(f"an object for {name!r}, with the keys: {', '.join(legal)}")
        for key, number in entry.items():
            if key not in legal:
                raise ValueError(f"for {name!r} the keys {', '.join(legal)}; not {key!r}")
            try:
                legal[key](number)
            except ValueError as error:
                raise ValueError(f"for {name}.{key} {error}; not {number!r}") from None
    return value


def an_object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")
    return value


def names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("a list of names")
    return tuple(value)


def option(
    key: str,
    default: Any,
    doc: str,
    *,
    parse: Callable[[object], Any] = text,
    unit: str = "",
    is_kept: bool = False,
    is_of_file: bool = False,
) -> Any:
    """A setting: its key in common_site_config.json and its line in docs/settings.md.

    With ``is_kept`` a wrong value is kept, and refused only by the code that needs it; with
    ``is_of_file`` the environment says nothing of it.
    """
    metadata = {"key": key, "doc": doc, "parse": parse, "unit": unit, "is_kept": is_kept,
                "is_of_file": is_of_file}  # fmt: skip
    return field(default=default, metadata=metadata)


def number(key: str, default: int, unit: str, doc: str, *, at_least: int = 1) -> Any:
    """A setting that is a whole number."""
    return option(key, default, doc, parse=whole_number(at_least), unit=unit)


@dataclass(frozen=True)
class Settings:
    """What the configuration and the environment say.  The fields with a key are the table."""

    sites_path: Path
    origins: Mapping[str, str] = field(default_factory=dict)

    # fmt: off
    redis_queue: str | None = option(
        "redis_queue", None, "Redis for the jobs' records; also the broker, unless one is named.")
    celery_broker_url: str | None = option(
        "celery_broker_url", None, "The broker, if it is not 'redis_queue'.")
    celery_result_backend: str | None = option(
        "celery_result_backend", None, "Celery's result backend; default: the records' Redis.")
    #: Frappe's own: what is wrong with it stops none of ours.
    redis_cache: object = option(
        "redis_cache", None, "Frappe's cache; the doctor warns where it is the jobs' Redis too.",
        is_kept=True)
    celery_app: str | None = option(
        "frappe_jobs_celery_app", None, "The module in which a team extends its own Celery app.")
    custom_bench_id: str | None = option(
        "bench_id", None, "Begins every queue's and key's name; default: made from the folder.")
    default_site: str | None = option(
        "default_site", None, "The site of a command that is given no --site.")
    workers: Mapping[str, Mapping[str, int]] | None = option(
        "workers", None, "Further queues, or other limits.", parse=parse_workers)
    background_workers: int = number(
        "background_workers", 1, "processes", "Processes for each queue without its own number.")
    background_process_niceness: int = number(
        "background_process_niceness", 10, "steps of nice",
        "Added to a worker's niceness.", at_least=0)
    job_failure_ttl: int = number(
        "rq_job_failure_ttl", 7 * 24 * 3600, "s", "How long a failed job is kept.")
    results_ttl: int = number(
        "rq_results_ttl", 600, "s", "How long a finished job and its result are kept.")
    failed_jobs_limit: int = number(
        "rq_failed_jobs_limit", 1000, "jobs", "Failed jobs kept for each queue.")
    max_queued_jobs: int = number(
        "max_queued_jobs", 0, "jobs",
        "enqueue refuses when so many jobs wait; 0: never.", at_least=0)
    max_message_size: int = number(
        "frappe_jobs_max_message_size", 10 * 1024 * 1024, "bytes",
        "The largest job that is sent.", at_least=1024)
    #: As it was given: if it is no number, only the jobs that need it do not run.
    scheduler_interval: object = option(
        "scheduler_interval", 240, "How often the jobs of the event 'all' run.",
        parse=whole_number(1), unit="s", is_kept=True)
    timeout_grace: int = number(
        "frappe_jobs_timeout_grace", 10, "s", "From a job's timeout to its kill, if it goes on.")
    lease: int = number(
        "frappe_jobs_lease", 60, "s",
        "How long a job stays with a worker that gives no sign of life.", at_least=2)
    stop_grace: int = number(
        "frappe_jobs_stop_grace", 0, "s",
        "From SIGTERM until a worker hands back what still runs; 0: never, it may finish.",
        at_least=0)
    redbeat_redis_url: str | None = option(
        "redbeat_redis_url", None, "Redis for the schedule; default: the records' Redis.")
    scheduler_lock: int = number(
        "frappe_jobs_scheduler_lock", 30, "s",
        "How long a scheduler leads without a sign of life; then another takes over.", at_least=2)
    scheduled_job_log_days: int = number(
        "frappe_jobs_scheduled_job_log_days", 7, "days", "How long a Scheduled Job Log is kept.")
    max_starts: int = number(
        "frappe_jobs_max_starts", 3, "starts",
        "How often a job is begun in all if its process dies.")
    max_reason: int = number(
        "frappe_jobs_max_reason", 4000, "characters",
        "The longest reason or stage of a job that is kept; of more, head and tail.",
        at_least=200)
    max_traceback: int = number(
        "frappe_jobs_max_traceback", 100_000, "characters",
        "The longest traceback of a job that is kept; of more, head and tail.", at_least=200)
    max_result: int = number(
        "frappe_jobs_max_result", 1_000_000, "characters",
        "The longest result of a job that is kept, as JSON; of more, head and tail as a text.",
        at_least=200)
    background_task_days: int = number(
        "frappe_jobs_background_task_days", 7, "days",
        "How long the record of a tracked job is kept.")
    done_markers: bool = option(
        "frappe_jobs_done_markers", True,
        "Whether what a job writes is committed with a mark that it is done, and never twice.",
        parse=yes_or_no)
    outbox: bool = option(
        "frappe_jobs_outbox", True,
        "Whether a job that waits for a commit is a row of that transaction until it is sent.",
        parse=yes_or_no)
    order: str = option(
        "frappe_jobs_order", "fair",
        "On Redis: fair: sites that wait take turns; fifo: first in, first out.",
        parse=one_of("fair", "fifo"))
    #: Read anew by whoever puts it in force, as it may change while workers run.
    limits: object = option(
        "frappe_jobs_limits", None,
        "How many jobs of the bench, a site, a queue or a method run at once, or begin in a time.",
        parse=an_object, is_kept=True, is_of_file=True)
    transport: str = option(
        "frappe_jobs_transport", "frappe_jobs",
        "How workers take from Redis: frappe_jobs: in one step, in turns; celery: as kombu does.",
        parse=one_of("frappe_jobs", "celery"))
    guest_queues: tuple[str, ...] | None = option(
        "frappe_jobs_guest_queues", None,
        "On Redis: the queues that workers other than ours serve, so that no site takes turns "
        "there; default: with a team's own Celery app each, else none.",
        parse=names)
    claim_ttl: int = number(
        "frappe_jobs_claim_ttl", 24 * 3600, "s",
        "On RabbitMQ: how long a job waits before its message counts as lost.")
    db_connect_timeout: int = number(
        "frappe_jobs_db_connect_timeout", 5, "s",
        "How long connecting to a site's database may take; then its jobs wait, and others run.")
    log_level: str = option(
        "frappe_jobs_log_level", "info", "The least that workers and schedulers log.",
        parse=one_of(*LOG_LEVELS))
    log_format: str = option(
        "frappe_jobs_log_format", "text", "Log lines for people, or a JSON object on each.",
        parse=one_of(*LOG_FORMATS))
    log_file: str | None = option(
        "frappe_jobs_log_file", None,
        "Where workers and schedulers log; a bare name lies in 'logs'; default: standard error.")
    history: bool | None = option(
        "frappe_jobs_history", None,
        "Whether what happens to jobs is counted; default: where the pages, metrics or alerts are "
        "configured.", parse=yes_or_no)
    metrics: bool = option(
        "frappe_jobs_metrics", False,
        "Whether metrics are served from here, so that what happens to jobs is counted.",
        parse=yes_or_no)
    alerts: Mapping[str, Any] | None = option(
        "frappe_jobs_alerts", None, "Where alerts go: a webhook, e-mail, a method of an app.",
        parse=an_object, is_of_file=True)
    web: Mapping[str, Any] | None = option(
        "frappe_jobs_web", None, "Who may use the pages of frappe-jobs web, and how.",
        parse=an_object)
    search_index: bool | None = option(
        "frappe_jobs_search_index", None,
        "Whether jobs are found by queue, method, user or error without a look at the others; "
        "default: where the pages are configured.", parse=yes_or_no)
    # fmt: on

    @cached_property
    def keeps_search_index(self) -> bool:
        """Whether what searches are quick by is written with each job."""
        asked = self.search_index
        return bool(self.web) if asked is None else asked

    @cached_property
    def keeps_history(self) -> bool:
        """Whether what happens to jobs is counted, for those who look at it later."""
        is_read = bool(self.web or self.metrics or self.alerts)
        return is_read if self.history is None else self.history

    @property
    def bench_id(self) -> str:
        """As in Frappe, the configured id, else made from the path of the bench's folder."""
        return self.custom_bench_id or str(self.sites_path.parent).strip("/").replace("/", "-")

    @property
    def prefix(self) -> str:
        """Begins the name of each of our keys in Redis."""
        return f"frappe_jobs:{self.bench_id}:"

    @cached_property
    def queues(self) -> dict[str, Queue]:
        """The bench's queues in Frappe's order: short, default, long, then its own."""
        limits = {"short": DEFAULT_TIMEOUT, "default": DEFAULT_TIMEOUT, "long": 1500}
        entries: dict[str, Mapping[str, int]] = {name: {} for name in limits}
        entries |= self.workers or {}
        return {
            name: Queue(
                name,
                timeout=entry.get("timeout", limits.get(name, DEFAULT_TIMEOUT)),
                background_workers=entry.get("background_workers", self.background_workers),
            )
            for name, entry in entries.items()
        }

    def queue(self, name: str | None) -> Queue:
        """The queue of that name, ``default`` for None; raises UnknownQueue."""
        queues = self.queues
        if not name:
            return queues["default"]
        if not isinstance(name, str) or name not in queues:
            raise UnknownQueue.named(name, queues)
        return queues[name]

    @cached_property
    def sites(self) -> Sites:
        """The sites of the folder."""
        return Sites(self.sites_path)


def settings_table() -> tuple[Field[Any], ...]:
    """The fields of Settings that are read from the configuration."""
    return tuple(item for item in fields(Settings) if "key" in item.metadata)


def variable(key: str) -> str:
    """A setting's environment variable: FRAPPE_REDIS_QUEUE, as Frappe spells it."""
    return key.upper() if key.startswith("frappe_") else f"FRAPPE_{key.upper()}"


def load_settings(
    sites_path: str | Path | None = None, *, renamed: Mapping[str, str] = RENAMED
) -> Settings:
    """Read the configuration of a bench; the environment wins over the file.

    Without a path the sites folder is looked for as Frappe does.  A FutureWarning names each
    setting that is given under a ``renamed`` key.  Raises ConfigError with the file, the key, the
    value and what is legal.
    """
    folder = Path(sites_path) if sites_path else find_sites_path()
    path = folder.resolve() / COMMON_CONFIG
    config = _with_new_names(read_common(path.parent), renamed, str(path))
    variables = {variable(old): variable(new) for old, new in renamed.items()}
    environment = _with_new_names(os.environ, variables, "The environment")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in settings_table():
        key, name = item.metadata["key"], variable(item.metadata["key"])
        if environment.get(name) and not item.metadata["is_of_file"]:
            raw, origin = _parsed(environment[name], item.metadata["parse"]), name
        elif config.get(key) is not None:
            raw, origin = config[key], str(path)
        else:
            continue
        try:
            values[item.name] = item.metadata["parse"](raw)
        except ValueError as error:
            if not item.metadata["is_kept"]:
                wrong = BadWorkers if key == "workers" else ConfigError
                text = f"{origin}: {key!r} must be {error}. It is: {shown(key, raw)}."
                raise wrong(text) from None
            values[item.name] = raw
        origins[item.name] = origin
    return Settings(sites_path=path.parent, origins=MappingProxyType(origins), **values)


def _with_new_names(
    given: Mapping[str, Any], renamed: Mapping[str, str], origin: str
) -> Mapping[str, Any]:
    """What is given, each renamed setting under its new key; of both the new key's value counts."""
    values = dict(given)
    for old in renamed.keys() & values.keys():
        new, value = renamed[old], values.pop(old)
        warnings.warn(
            f"{origin}: {old!r} is called {new!r} now. Rename it: the next version does not know "
            "the old name.", FutureWarning, stacklevel=3,
        )  # fmt: skip
        if values.get(new) in (None, ""):
            values[new] = value
    return values


def _parsed(value: str, parse: Callable[[object], Any]) -> object:
    if parse is text:
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value
