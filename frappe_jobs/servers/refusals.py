"""Which errors mean that Redis is there but refuses: the same call may succeed later."""

from __future__ import annotations

import re

import redis

from frappe_jobs.errors import BrokerError, BrokerUnavailable
from frappe_jobs.servers.unreached import unreached

#: An answer's code: its first word, or where an older Redis quotes it from inside a script.
CODE = re.compile(r"(?:^|: -)([A-Z]{3,})\b")

#: Codes that say that the question is wrong: asked again, it gets the same answer.
FAULTS = {"ERR", "WRONGTYPE", "CROSSSLOT", "NOSCRIPT", "NOPROTO", "NOSUB", "UNKILLABLE"}

#: redis-py's errors for refusals; it removes their codes from the text.
REFUSALS = tuple(
    getattr(redis.exceptions, name)
    for name in (
        "ReadOnlyError", "NoPermissionError", "OutOfMemoryError", "ClusterDownError",
        "MasterDownError", "TryAgainError", "MovedError", "AskError", "ExecAbortError",
        "AuthenticationWrongNumberOfArgsError",
    )
    if hasattr(redis.exceptions, name)  # older versions have fewer, and keep the code in the text
)  # fmt: skip

#: What redis-py puts before an answer in a pipeline: the command, with all its arguments.
COMMAND = re.compile(r"^Command # \d+ .* of pipeline caused error: ", re.DOTALL)

#: Texts of refusals that have lost their code, in a pipeline or a script.
TEXTS = ("'maxmemory'", "read only replica")


def is_refusal(error: redis.RedisError) -> bool:
    """Whether the server is there but does not take this now, or not from us.

    It may be full, a replica, loading, busy, or have another access list: that will be mended.
    Every code of Redis counts, except those that say that the question is wrong.
    """
    if isinstance(error, REFUSALS):
        return True
    if not isinstance(error, redis.ResponseError):
        return False
    text = answer_of(error)
    found = CODE.search(text)
    return bool(found and found[1] not in FAULTS) or any(word in text for word in TEXTS)


def answer_of(error: BaseException) -> str:
    """What Redis answered, without the command, which may have a job's arguments in it."""
    return COMMAND.sub("", str(error))


def as_ours(error: redis.RedisError, server: str, url: str) -> BrokerError:
    """The same error as ours: BrokerUnavailable if the same call may succeed later."""
    said = answer_of(error)
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return BrokerUnavailable(f"{server} is out of reach: {unreached(error, url)}")
    if is_refusal(error):
        return BrokerUnavailable(f"{server} refuses: {said}")
    return BrokerError(f"{server} answers with an error: {type(error).__name__}: {said}")
