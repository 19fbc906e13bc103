"""Texts that jobs bring along, of any length and any characters, as others can take them."""

from __future__ import annotations

import pickle
import traceback
from types import TracebackType

from frappe_jobs.errors import JobFailed

#: Of an error's own text and of what it carries, so many characters and bytes go into logs and to
#: whoever listens; what is kept of a job has limits of its own.
LONGEST_LOGGED = 20_000


def safe(text: str) -> str:
    """The text as Redis and every database take it.

    Halves of characters and NUL are written as backslash escapes.
    """
    if text.isascii():
        return text.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def bounded(text: str, limit: int) -> str:
    """The text in so many characters: of a longer one head and tail, and what is missing."""
    if len(text) <= limit:
        return text
    said = f" … [of {len(text):,} characters the middle is left out] … "
    kept = max(limit - len(said), 0)
    return text[: kept - kept // 2] + said + text[len(text) - kept // 2 :]


def described(error: BaseException) -> str:
    """Its type and what it says of itself."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: B036 - its code is the job's, and may do anything
        text = f"<its text cannot be made: {type(broken).__name__}>"
    return f"{type(error).__name__}: {text}"


def type_of(error: BaseException) -> str:
    """The dotted path of its type."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def traceback_of(error: BaseException) -> str:
    """Its traceback with its causes, as Python prints it; as much as can be made of it."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: B036 - as above
        return "".join(traceback.format_tb(error.__traceback__)) + described(error)


def presentable(error: BaseException) -> Exception:
    """The error itself, or a JobFailed in its place that has its traceback.

    That is where those who handle errors would trip over it: it is no Exception, has no text or a
    damaged one, cannot be pickled, or is very large.
    """
    if isinstance(error, Exception) and _can_be_carried(error):
        return error
    text = bounded(described(error), LONGEST_LOGGED // 2)
    return JobFailed(safe(text)).with_traceback(error.__traceback__)


def _can_be_carried(error: Exception) -> bool:
    try:
        carried, text = pickle.dumps(error), str(error)
        pickle.loads(carried)
        is_short = max(len(carried), len(text), len(repr(error))) <= LONGEST_LOGGED
        return is_short and text == safe(text)
    except BaseException:  # noqa: B036 - as above
        return False


def let_go(error: BaseException) -> None:
    """Drop what the frames of an error and of those that led to it hold, once nobody needs it.

    An error that a local variable names keeps its frames, and their values, until Python's
    collector comes by, which goes by the number of objects and not by their size.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            _clear(one.__traceback__)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _clear(trace: TracebackType | None) -> None:
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:  # it still runs
            pass
        else:
            trace.tb_frame.f_locals  # noqa: B018 - a copy that somebody asked for is made anew
        trace = trace.tb_next
