"""The options that callers of Frappe's and RQ's queues give, as ours."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import frappe
import rq
from frappe.model.base_document import get_controller
from frappe.utils.background_jobs import truncate_failed_registry
from rq.utils import parse_timeout

from frappe_jobs.errors import ArgumentError
from frappe_jobs.frappe_bench.host.session import runtime
from frappe_jobs.message import Retry

logger = logging.getLogger(__name__)

#: Our options, which Frappe's enqueue takes for arguments of the method.
OURS = (
    "track_job", "retry", "at_front_when_starved", "debounce", "concurrency_key", "expires",
)  # fmt: skip

#: The method that Frappe's own enqueue_doc enqueues.
FRAPPES_RUN_DOC_METHOD = "frappe.utils.background_jobs.run_doc_method"

#: The host's path for queue.keep_few_failed_jobs.
KEEP_FEW_FAILED_JOBS = "frappe_jobs.keep_few_failed_jobs"

#: Seconds, for RQ's timeout of -1: none.
ENDLESS = 365 * 24 * 3600

#: The keywords of RQ's enqueue that are not the function's.
RQS_OWN = (
    "timeout", "job_timeout", "at_front", "job_id", "on_success", "on_failure", "on_stopped",
    "retry", "description", "depends_on", "meta", "ttl", "result_ttl", "failure_ttl", "pipeline",
)  # fmt: skip

#: The bench's settings say how long jobs are kept; Frappe gives these with every job.
KNOWN = {"result_ttl", "failure_ttl"}

#: RQ's options that have already been named in the log.
_named: set[str] = set()


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """RQ's options that we have as well; the others are logged once.

    Raises ArgumentError for ``depends_on``: the job would run before the other job.
    """
    rest = {name: value for name, value in options.items() if value is not None}
    if rest.keys() <= KNOWN:  # as from Frappe's enqueue
        return {}
    if rest.pop("depends_on", None):
        raise ArgumentError(
            "'depends_on' is RQ's, and jobs do not wait for others here: enqueue it at the end of "
            "the other job, or as its on_success."
        )
    found: dict[str, Any] = {}
    if (retry := rest.pop("retry", None)) is not None:
        # The dispatcher refuses what is neither RQ's nor ours.
        is_rqs = isinstance(retry, rq.Retry)
        found["retry"] = Retry(retry.max, retry.intervals) if is_rqs else retry
    if description := rest.pop("description", None):
        found["job_name"] = str(description)
    if ignored := sorted({*rest} - KNOWN - _named):
        _named.update(ignored)
        logger.warning(
            "enqueue_call was given %s: RQ's options, which are ignored here", ", ".join(ignored)
        )
    return found


def positional(
    method: Callable[..., Any] | str, values: Sequence[Any] | None, arguments: dict[str, Any]
) -> None:
    """Add positional arguments to the named ones; raises ArgumentError for too many."""
    if not values:
        return
    signature = inspect.signature(_function_behind(method, arguments))
    try:
        named = signature.bind_partial(*values).arguments
    except TypeError as error:
        raise ArgumentError(f"{method} cannot be given {values!r}: {error}.") from None
    for name in named:
        if signature.parameters[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            raise ArgumentError(f"{method} takes {name!r} only by position; a job cannot do that.")
        if name in arguments:
            raise ArgumentError(f"{method} is given {name!r} twice.")
    arguments.update(named)


def taken_out(method: Callable[..., Any] | str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Remove and return our options among the arguments, unless the method has such a parameter."""
    found = [name for name in OURS if name in arguments]
    if not found:
        return {}
    named = inspect.signature(_function_behind(method, arguments)).parameters
    return {name: arguments.pop(name) for name in found if name not in named}


def _function_behind(
    method: Callable[..., Any] | str, arguments: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function that gets the arguments in the end: with enqueue_doc the document's method."""
    if method == FRAPPES_RUN_DOC_METHOD:
        found = getattr(get_controller(arguments["doctype"]), arguments["doc_method"] or "", None)
        method = found if callable(found) else method
    function: Callable[..., Any] = frappe.get_attr(method) if isinstance(method, str) else method
    return function


def seconds(timeout: Any) -> int | None:
    """A timeout as RQ reads it: a number, ``"600"``, ``"10m"``, or -1 for no timeout."""
    found = parse_timeout(timeout)
    return ENDLESS if found is not None and found < 0 else found and int(found)


def function_of(callback: Any) -> Callable[..., Any] | str | None:
    """The function in RQ's Callback."""
    function: Callable[..., Any] | str | None = getattr(callback, "func", callback)
    return function


def kept(on_failure: Callable[..., Any] | str | None) -> Callable[..., Any] | str | None:
    """Drop Frappe's default, which limits failed jobs: the ledger does so, by the same limit.

    Unless the site has a limit of its own.
    """
    if on_failure is not truncate_failed_registry:
        return on_failure
    limit = frappe.conf.get("rq_failed_jobs_limit")
    is_own = limit and limit != runtime().settings.failed_jobs_limit
    return KEEP_FEW_FAILED_JOBS if is_own else None
