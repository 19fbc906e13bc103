"""A message as it travels: a frozen value, and its versioned wire form."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from typing import Any

from frappe_jobs.errors import ArgumentError, BadMessage, LaterVersion, shortened
from frappe_jobs.texts.error_text import safe
from frappe_jobs.values import once, quick

#: The version of the wire form; a worker reads its own and the versions next to it.  2 added
#: task_id, 3 goes_on, 4 backoff, concurrency_key, expires_at and trace.
VERSION = 4
READABLE = range(max(1, VERSION - 1), VERSION + 2)

#: The one Celery task that runs all jobs.
TASK = "frappe_jobs.execute"

#: The message header that holds the envelope: everything but the arguments.
HEADER = "frappe_jobs"


#: Seconds: longer than any timeout; later than any time that a clock shows.
LONGEST, LATEST = 2**31, 2**40

#: JSON as short as it gets; our values contain no circles, as Arguments made them.
to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def new_id() -> str:
    """The id of a new message: a random UUID (RFC 9562), in half the time of ``str(uuid4())``."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


#: The waits that a worker of version 3 is told, which knows no backoff.
FORETOLD = 20


@dataclass(frozen=True)
class Retry:
    """How often a failed job is run again, after which errors, and how many seconds later.

    ``interval`` is a number, or a list of one for each retry; its last is for all further retries.
    With ``backoff`` each wait is so many times the one before: 10, 20, 40 s with 2; ``cap`` is the
    longest.  ``jitter`` takes up to that part of each wait off at random, so that jobs that failed
    together do not come back together.  ``only`` names the errors that are worth it, as classes or
    their dotted paths, with all that derive from them.
    """

    max: int
    interval: int | Sequence[int] = 0
    backoff: float = 1
    cap: int | None = None
    jitter: float = 0
    only: Sequence[type[BaseException] | str] = ()

    def __post_init__(self) -> None:
        if not _is_count(self.max) or self.max < 1:
            raise ArgumentError(f"Retry's max must be a whole number, 1 or more; not {self.max!r}.")
        if isinstance(self.interval, Sequence) and not isinstance(self.interval, str):
            # The list is the caller's, who may change it later.
            object.__setattr__(self, "interval", tuple(self.interval))
        waits = self.interval if isinstance(self.interval, tuple) else (self.interval,)
        if not waits or not all(_is_count(wait) and wait >= 0 for wait in waits):
            raise ArgumentError(
                f"Retry's interval must be seconds, or a list of them; not {self.interval!r}."
            )
        if max(waits) >= LONGEST:
            raise ArgumentError(f"Retry's interval must be under {LONGEST} seconds.")
        self._check_backoff()
        is_one = isinstance(self.only, (str, type))
        object.__setattr__(
            self, "only", tuple(map(_path_of_error, [self.only] if is_one else self.only))
        )

    def _check_backoff(self) -> None:
        if not _is_number(self.backoff) or not 1 <= self.backoff <= 100:
            raise ArgumentError(
                f"Retry's backoff must be a number from 1 to 100; not {self.backoff!r}."
            )
        if self.backoff != 1 and isinstance(self.interval, tuple):
            raise ArgumentError("Retry's interval must be one number where backoff is given.")
        if self.backoff != 1 and self.interval == 0:
            raise ArgumentError("Retry's interval must be 1 s or more where backoff is given.")
        if self.cap is not None and (not _is_count(self.cap) or not 1 <= self.cap < LONGEST):
            raise ArgumentError(f"Retry's cap must be seconds, 1 or more; not {self.cap!r}.")
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise ArgumentError(f"Retry's jitter must be from 0 to 1; not {self.jitter!r}.")

    def allows(self, error: BaseException) -> bool:
        """Whether that error is worth another attempt."""
        paths = {_path_of_error(kind) for kind in type(error).__mro__ if kind is not object}
        return not self.only or not paths.isdisjoint(map(str, self.only))

    def delay(self, attempt: int) -> int:
        """Seconds from the failure of that attempt (the first is 1) to the next attempt."""
        wait = self._wait(attempt)
        return wait - int(wait * self.jitter * random.random())

    def _wait(self, attempt: int) -> int:
        longest = LONGEST - 1 if self.cap is None else self.cap
        if not isinstance(self.interval, int):
            return min(longest, self.interval[min(attempt, len(self.interval)) - 1])
        wait = float(self.interval)
        for _ in range(attempt - 1):
            if self.backoff == 1 or wait >= longest:
                break
            wait *= self.backoff
        return int(min(longest, wait))

    @property
    def _is_plain(self) -> bool:
        """Whether a worker of version 3 reads all of it."""
        return (self.backoff, self.cap, self.jitter, self.only) == (1, None, 0, ())

    def _header(self) -> dict[str, Any]:
        """As a header holds it: what version 3 knows, and beside it the whole."""
        if self._is_plain:
            return {"retry": {"max": self.max, "interval": self.interval}}
        waits = [self._wait(attempt) for attempt in range(1, min(self.max, FORETOLD) + 1)]
        return {"retry": {"max": self.max, "interval": waits}, "backoff": asdict(self)}


@quick
@dataclass(frozen=True)
class Message:
    """One sending of a job; its id is new each time, while the job's id may be the caller's."""

    id: str
    job_id: str
    site: str
    user: str
    method: str
    queue: str
    name: str
    timeout: int
    enqueued_at: float
    arguments: Mapping[str, Any] = field(default_factory=dict)  # as JSON carries them
    event: str | None = None
    at_front: bool = False
    on_success: str | None = None
    on_failure: str | None = None
    retry: Retry | None = None
    #: The other message whose on_failure this message calls, as its process was killed.
    failure_of: str | None = None
    #: The Background Task that follows the job (``track_job``).
    task_id: str | None = None
    #: The earlier message of its job behind whose steps it goes on.
    goes_on: str | None = None
    #: Of the site's jobs with this key only so many run at once as its limit says, else one.
    concurrency_key: str | None = None
    #: When it is too late to begin it, in seconds since 1970.
    expires_at: float | None = None
    #: What says of which trace it is a part, as HTTP headers would.
    trace: Mapping[str, str] | None = None

    def again(self, *, at: float, goes_on: bool = False) -> Message:
        """The same job, to be sent once more; ``goes_on``: behind the steps that it has done.

        Whoever asks for that wants it run, however late it is.
        """
        begun = self.begun_as if goes_on else None
        return replace(self, id=new_id(), enqueued_at=at, goes_on=begun, expires_at=None,
                       trace=None)  # fmt: skip

    @property
    def begun_as(self) -> str:
        """The id of the message under which its steps and loops are known."""
        return self.goes_on or self.id

    def header(self) -> dict[str, Any]:
        """All but the arguments: what whoever looks at a queue reads, without running anything."""
        known = self.__dict__
        header: dict[str, Any] = {"version": VERSION}
        header |= {name: value for name in _KINDS if (value := known.get(name)) is not None}
        return header | self.retry._header() if self.retry else header

    @once
    def header_json(self) -> str:
        return to_json(self.header())

    @once
    def arguments_json(self) -> str:
        return to_json(self.arguments) if self.arguments else "{}"

    def marks(self) -> list[str]:
        """Parts of its to_json that tell it from another message with the same id."""
        parts = {"job_id": self.job_id, "user": self.user, "method": self.method}
        return [to_json({name: value})[1:-1] for name, value in parts.items()]

    def to_json(self) -> str:
        """The whole message as the ledger keeps it."""
        return f'{{"header":{self.header_json},"arguments":{self.arguments_json}}}'

    @classmethod
    def from_json(cls, text: str) -> Message:
        """Read what to_json wrote; raises BadMessage."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadMessage(f"The message is not JSON: {error}.") from None
        if not isinstance(value, dict):
            raise BadMessage(f"The message is {type(value).__name__}, no object.")
        return cls.from_wire(value.get("header"), value.get("arguments"))

    @classmethod
    def from_wire(cls, header: object, arguments: object) -> Message:
        """Read a message from the broker; raises BadMessage that says what is wrong with it."""
        if not isinstance(header, dict):
            raise BadMessage(f"The message has no {HEADER!r} header.")
        if is_of_later_version(header):
            raise LaterVersion(
                f"The message's version is {header['version']}, not {VERSION}: it is for a newer "
                "worker."
            )
        if header.get("version") not in READABLE or isinstance(header["version"], bool):
            raise BadMessage(
                f"The message's version is {shortened(header.get('version'))}, not {VERSION}."
            )
        if not isinstance(arguments, dict):
            raise BadMessage(f"The message's arguments are {type(arguments).__name__}, no object.")
        values = {
            key: value for key, value in header.items() if key != "version" and value is not None
        }
        for name, kinds in _KINDS.items():
            value = values.get(name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                if value is not None or type(None) not in kinds:
                    raise BadMessage(f"The message's {name!r} is {shortened(value)}.")
            if isinstance(value, str) and value != safe(value):
                raise BadMessage(f"The message's {name!r} cannot be kept: {shortened(value)}.")
        if not 0 < values["timeout"] < LONGEST or not 0 <= values["enqueued_at"] < LATEST:
            raise BadMessage(
                f"The message's 'timeout' is {values['timeout']}, its 'enqueued_at' "
                f"{values['enqueued_at']}."
            )
        if not 0 <= values.get("expires_at", 0) < LATEST:
            raise BadMessage(f"The message's 'expires_at' is {values['expires_at']}.")
        trace = values.get("trace", {})
        said = [text for pair in trace.items() for text in pair]
        if not all(isinstance(text, str) and text == safe(text) for text in said):
            raise BadMessage(f"The message's 'trace' is {shortened(trace)}.")
        unknown = values.keys() - _KINDS.keys()
        if header["version"] > VERSION:  # we can do without what that version has added
            values = {name: values[name] for name in values.keys() - unknown}
        elif unknown:
            raise BadMessage(f"The message has unknown fields: {', '.join(sorted(unknown)):.200}.")
        whole = values.pop("backoff", None)
        try:
            if "retry" in values:
                values["retry"] = Retry(**(whole or values["retry"]))
        except (TypeError, ArgumentError) as error:
            raise BadMessage(
                f"The message's 'retry' is {values['retry']!r:.200}: {error}"
            ) from None
        return cls(arguments=arguments, **values)


#: What each field of the header may be, in their order.
_TEXT, _OPTIONAL = (str,), (str, type(None))
_KINDS: dict[str, tuple[type, ...]] = {
    "id": _TEXT, "job_id": _TEXT, "site": _TEXT, "user": _TEXT, "method": _TEXT, "queue": _TEXT,
    "name": _TEXT, "timeout": (int,), "enqueued_at": (int, float), "event": _OPTIONAL,
    "at_front": (bool, type(None)), "on_success": _OPTIONAL, "on_failure": _OPTIONAL,
    "retry": (dict, type(None)), "failure_of": _OPTIONAL, "task_id": _OPTIONAL,
    "goes_on": _OPTIONAL, "backoff": (dict, type(None)), "concurrency_key": _OPTIONAL,
    "expires_at": (int, float, type(None)), "trace": (dict, type(None)),
}  # fmt: skip


def is_of_later_version(header: object) -> bool:
    """Whether only a newer worker can read the message with that header."""
    version = header.get("version") if isinstance(header, dict) else None
    return isinstance(version, int) and version >= READABLE.stop


def _path_of_error(kind: object) -> str:
    """The dotted path of a class of errors; raises ArgumentError."""
    if isinstance(kind, str) and all(part.isidentifier() for part in kind.split(".")):
        return kind.removeprefix("builtins.")
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise ArgumentError(
        f"Retry's only must name classes of errors, or their dotted paths; not {shortened(kind)}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Recorded(IntEnum):
    """What became of a sending's record; false if the sending is not to be sent."""

    #: Another job has its id, or it was dropped.
    REFUSED = 0
    WRITTEN = 1
    #: There was a record already.
    KNOWN = 2
    #: It waits for its time: it is not sent yet.
    DELAYED = 3


@dataclass(frozen=True)
class Held:
    """How a worker holds a message that it has taken (Redis)."""

    token: str
    #: The hash of what workers hold, by their tokens.
    key: str
    #: The queue's name on the broker, if the message was taken while another one ran; else "".
    ahead_in: str = ""
    #: Where at-front jobs of that queue wait.
    front: Sequence[str] = ()


@quick
@dataclass(frozen=True)
class Sending:
    """A message to be sent; with ``claim`` only if no other job of that id waits or runs."""

    message: Message
    claim: bool = False
    #: Names the due time of a scheduled job, for which nothing is sent again within a day.
    due: str | None = None
    #: A list in the ledger's Redis, the text to push there in the step that writes the record, and
    #: the bell of the workers that wait for it.
    push: tuple[str, str, str] | None = None
    #: Whether its site's outbox has it, too, from where it is sent if nobody has sent it.
    has_row: bool = False
    #: When it is due, in seconds since 1970; None: now.
    at: float | None = None
    #: Whether it takes the place of its id's job, if that waits, or else waits behind it.
    replaces: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is sent at once, whatever else there is, and from nowhere else."""
        is_more = self.claim or self.due or self.has_row or self.replaces
        return not is_more and self.at is None and self.message.expires_at is None

    def pushed(self, push: tuple[str, str, str]) -> Sending:
        """The same, with what is pushed (``replace`` takes as long as the rest of a sending)."""
        made: Sending = object.__new__(Sending)
        made.__dict__.update(self.__dict__, push=push)
        return made

    def to_json(self) -> str:
        """The message and how it is to be sent, as an outbox keeps it beside the claim."""
        text = self.message.to_json()
        if self.at is None and not self.replaces:
            return text
        return f'{text[:-1]},"sending":{to_json({"at": self.at, "replaces": self.replaces})}}}'

    @classmethod
    def of_row(cls, message: Message, text: str, claim: bool) -> Sending:
        """What to_json wrote, whose message was read; what is no time counts as none."""
        how = json.loads(text).get("sending")
        at, replaces = (
            (how.get("at"), how.get("replaces")) if isinstance(how, dict) else (None, None)
        )
        is_time = isinstance(at, (int, float)) and not isinstance(at, bool) and 0 <= at < LATEST
        return cls(
            message, claim, has_row=True, at=at if is_time else None, replaces=replaces is True
        )
