"""The error tree.  Each class's docstring is its default message.

FrappeJobsError
├── ConfigError        UnknownQueue, BadWorkers, BrokerNotConfigured
├── JobError           ArgumentError, JobNotSerializable, MessageTooLarge, MethodNotFound,
│                      MethodNotAllowed, BadMessage, JobNotFound, JobFailed, JobTimeout,
│                      RetryBackgroundJobError, StillEnqueuing
├── ScheduleError      BadCron, UnknownFrequency, BadEntry
├── HostError          SiteNotFound, HostNotReady, DoesNotExistError, PermissionError,
│                      DatabaseUnavailable, RecordNotWritten, TransactionConflict,
│                      TransactionEnded
└── BrokerError        BrokerUnavailable, NotSupportedByBroker, QueueOverloaded

and a warning: GuestWarning
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 100


def shortened(value: object) -> str:
    """The value's repr for a message, without its middle if it is long."""
    return _repr.repr(value)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Ends a message: " Did you mean 'short'?"; empty if nothing known is like that name."""
    from difflib import get_close_matches

    nearest = get_close_matches(str(name)[:200], known, 2, 0.7)
    return f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""


class FrappeJobsError(Exception):
    """Something in frappe_jobs went wrong."""

    #: The values in the message, for programs: ``error.details["queue"]``.
    details: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return super().__str__() or " ".join((type(self).__doc__ or "").split())

    def about(self, **details: object) -> Self:
        """The same error, with details."""
        self.details = details
        return self


class ConfigError(FrappeJobsError):
    """A configuration file or an environment variable holds something that cannot be used."""


class UnknownQueue(ConfigError):
    """The queue is not configured."""

    @classmethod
    def named(cls, queue: object, known: Collection[str]) -> UnknownQueue:
        return cls(
            f"Queue {queue!r} is not configured; known queues: {', '.join(known)}."
            f"{did_you_mean(queue, known)} Add it under 'workers' in common_site_config.json."
        ).about(queue=queue)


class BadWorkers(ConfigError):
    """The 'workers' entry of common_site_config.json is wrong."""


class BrokerNotConfigured(ConfigError):
    """No broker is configured.

    Set 'redis_queue' (or 'celery_broker_url') in common_site_config.json, or ask for the embedded
    server with --embedded.
    """

    @classmethod
    def beside(cls, environment: Mapping[str, str]) -> BrokerNotConfigured:
        """The error, with a hint if Celery's own variable is set, which is for other apps."""
        if not environment.get("CELERY_BROKER_URL"):
            return cls()
        return cls(
            f"{cls()} CELERY_BROKER_URL is for other apps; ours is FRAPPE_CELERY_BROKER_URL."
        )


class JobError(FrappeJobsError):
    """A job cannot be sent, found or run."""


class ArgumentError(JobError):
    """An argument of enqueue, or of the method it names, is wrong."""


class JobNotSerializable(ArgumentError):
    """An argument cannot travel as JSON."""


class MessageTooLarge(ArgumentError):
    """The job's arguments are larger than the setting 'frappe_jobs_max_message_size' allows."""


class MethodNotFound(JobError):
    """The method's dotted path leads nowhere."""


class MethodNotAllowed(JobError):
    """The method does not belong to an app that is installed on the site."""


class BadMessage(JobError):
    """A message on the broker is damaged, or is not ours."""


class ForgedMessage(BadMessage):
    """A message has the id of another job's message."""


class LaterVersion(BadMessage):
    """A message was sent by a version of frappe_jobs that this worker is too old for."""


class StillEnqueuing(JobError):
    """Jobs went on enqueueing jobs, until run_jobs gave up."""


class JobNotFound(JobError):
    """There is no such job: it never existed, belongs to another site, or was deleted."""


class JobFailed(JobError):
    """The job failed."""


class JobTimeout(JobError):
    """The job had not ended when the timeout of wait() was over. It goes on."""


class RetryBackgroundJobError(JobError):
    """A method raises it to be rolled back and run again (Frappe's class of that name)."""


class ScheduleError(FrappeJobsError):
    """A scheduled job is wrong."""


class BadCron(ScheduleError):
    """A cron expression cannot be read, or names no date that ever comes."""


class BadEntry(ScheduleError):
    """An entry of the schedule cannot be read."""


class UnknownFrequency(ScheduleError):
    """There is no such frequency."""

    @classmethod
    def named(cls, frequency: object, known: Iterable[str]) -> UnknownFrequency:
        return cls(
            f"There is no frequency {shortened(frequency)}; legal: {', '.join(known)}."
        ).about(frequency=frequency)


class HostError(FrappeJobsError):
    """A site cannot be used."""


class SiteNotFound(HostError):
    """The site does not exist."""

    @classmethod
    def named(cls, site: object, known: Collection[str]) -> SiteNotFound:
        return cls(
            f"Site {site!r} does not exist; sites here: {', '.join(known) or 'none'}."
            f"{did_you_mean(site, known)}"
        ).about(site=site)


class HostNotReady(HostError):
    """No site is open. Open one: with frappe_jobs.site("site1"): …"""


class DoesNotExistError(HostError):
    """The document does not exist (Frappe's class of that name)."""


class PermissionError(HostError):
    """This user may not do that (Frappe's class of that name)."""


class DatabaseUnavailable(HostError):
    """The site's database is out of reach."""


class RecordNotWritten(HostError):
    """A record could not be written just now; another transaction is in the way."""


class TransactionConflict(HostError):
    """Another transaction was in the way (SQLite). Roll back, and run the transaction again."""


class TransactionEnded(HostError):
    """The database has ended the transaction; what it wrote is gone. Roll it back."""


class BrokerError(FrappeJobsError):
    """The broker refused the call."""


class BrokerUnavailable(BrokerError):
    """The broker is out of reach."""


class NotSupportedByBroker(BrokerError):
    """This broker cannot do that."""


class QueueOverloaded(BrokerError):
    """The queue holds more jobs than 'max_queued_jobs' allows."""


class GuestWarning(UserWarning):
    """With a team's own Celery app, a promise does not hold on the team's workers."""


@contextmanager
def importing(what: str) -> Iterator[None]:
    """Raise ConfigError, which says it in a line, if what is imported inside cannot be."""
    try:
        yield
    except FrappeJobsError:
        raise
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(
            f"{what} cannot be imported: {type(error).__name__}: {error} ({_raised_in(error)}). "
            f"Is all that it needs installed for {sys.executable}? pip check says what is missing."
        ) from error


def _raised_in(error: BaseException) -> str:
    """The file and line, the machinery of imports left out."""
    place, found = error.__traceback__, "nowhere"
    while place:
        if not (file := place.tb_frame.f_code.co_filename).startswith("<"):
            found = f"{file}, line {place.tb_lineno}"
        place = place.tb_next
    return found


@contextmanager
def needing(extra: str, packages: Collection[str]) -> Iterator[None]:
    """Raise ConfigError that names the extra if a package that it installs cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in packages:
            raise
        raise ConfigError(
            f"{error.name} is not installed, and this needs it: pip install "
            f"'frappe_jobs[{extra}]'."
        ) from None
