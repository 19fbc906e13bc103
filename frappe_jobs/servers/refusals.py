"""Which errors mean that Redis is there and refuses: who waits for it gets through some day."""

from __future__ import annotations

import re

import redis

from frappe_jobs.errors import BrokerError, BrokerUnavailable
from frappe_jobs.servers.unreached import unreached

#: An answer's code: its first word, or where an older Redis quotes it from within a script.
CODE = re.compile(r"(?:^|: -)([A-Z]{3,})\b")

#: Codes of answers to what was asked: who waits gets the same one again.
FAULTS = {"ERR", "WRONGTYPE", "CROSSSLOT", "NOSCRIPT", "NOPROTO", "NOSUB", "UNKILLABLE"}

#: redis-py takes these codes away from the text.
REFUSALS = tuple(
    getattr(redis.exceptions, name)
    for name in (
        "ReadOnlyError", "NoPermissionError", "OutOfMemoryError", "ClusterDownError",
        "MasterDownError", "TryAgainError", "MovedError", "AskError", "ExecAbortError",
        "AuthenticationWrongNumberOfArgsError",
    )
    if hasattr(redis.exceptions, name)  # an older one has fewer, and leaves the code in the text
)  # fmt: skip

#: What redis-py puts before an answer in a pipeline: the command, with all its arguments.
COMMAND = re.compile(r"^Command # \d+ .* of pipeline caused error: ", re.DOTALL)

#: What has lost its code on its way: of a command in a pipeline, or in a script.
TEXTS = ("'maxmemory'", "read only replica")


def is_refusal(error: redis.RedisError) -> bool:
    """Whether the server is there and takes this from nobody now, or not from us.

    It may be full, a replica, loading, busy, or have another access list: somebody will mend it.
    Anything that Redis names by a code of its own counts, but for what is wrong with the question.
    """
    if isinstance(error, REFUSALS):
        return True
    if not isinstance(error, redis.ResponseError):
        return False
    text = answer_of(error)
    found = CODE.search(text)
    return bool(found and found[1] not in FAULTS) or any(word in text for word in TEXTS)


def answer_of(error: BaseException) -> str:
    """What Redis said, without the command that it says it of: a job's arguments may be there."""
    return COMMAND.sub("", str(error))


def as_ours(error: redis.RedisError, server: str, url: str) -> BrokerError:
    """The same error for our callers: BrokerUnavailable, if the same call may succeed later."""
    said = answer_of(error)
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return BrokerUnavailable(f"{server} is out of reach: {unreached(error, url)}")
    if is_refusal(error):
        return BrokerUnavailable(f"{server} takes nothing: {said}")
    return BrokerError(f"{server} answers with an error: {type(error).__name__}: {said}")
