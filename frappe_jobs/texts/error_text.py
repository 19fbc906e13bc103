"""Make texts that jobs bring, of any length and characters, fit for servers, logs and people."""

from __future__ import annotations

import pickle
import traceback
from types import TracebackType

from frappe_jobs.errors import JobFailed

#: Characters of an error's text, and bytes of its pickle, that may go into logs and to listeners of
#: Celery's signals; what is kept of a job has limits of its own.
LONGEST_LOGGED = 20_000


def safe(text: str) -> str:
    """The text as Redis and every database accept it.

    Halves of characters and NUL are written as backslash escapes.
    """
    if text.isascii():
        return text.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def bounded(text: str, limit: int) -> str:
    """The text; if it is longer than the limit, its head and tail, and how much is left out."""
    if len(text) <= limit:
        return text
    said = f" … [of {len(text):,} characters the middle is left out] … "
    kept = max(limit - len(said), 0)
    return text[: kept - kept // 2] + said + text[len(text) - kept // 2 :]


def described(error: BaseException) -> str:
    """Its type and its text."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: B036 - it runs the job's code, which may do anything
        text = f"<its text cannot be made: {type(broken).__name__}>"
    return f"{type(error).__name__}: {text}"


def type_of(error: BaseException) -> str:
    """The dotted path of its type."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def traceback_of(error: BaseException) -> str:
    """Its traceback with its causes, as Python prints it, as far as that can be made."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: B036 - as above
        return "".join(traceback.format_tb(error.__traceback__)) + described(error)


def presentable(error: BaseException) -> Exception:
    """The error itself, or a JobFailed with its traceback if code that handles it would fail.

    That is so if it is no Exception, has no text or a damaged one, cannot be pickled, or is very
    large.
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
    """Drop what the frames of an error and of its causes hold, once it is not needed any more.

    An error in a local variable keeps its frames, and their values, until Python's garbage
    collector runs, which depends on the number of objects and not on their size.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        linked = waiting.pop()
        if isinstance(linked, BaseException) and id(linked) not in seen:
            seen.add(id(linked))
            _clear(linked.__traceback__)
            waiting += [linked.__cause__, linked.__context__, *getattr(linked, "exceptions", ())]


def _clear(trace: TracebackType | None) -> None:
    while trace is not None:
        try:
            trace.tb_frame.clear()
        except RuntimeError:  # it still runs
            pass
        else:
            trace.tb_frame.f_locals  # noqa: B018 - renews a copy that was taken of them
        trace = trace.tb_next
