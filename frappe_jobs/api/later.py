"""What enqueue_at and enqueue_in take and give back, for type checkers: one table for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from frappe_jobs.dispatch import Expiry
from frappe_jobs.job import Job
from frappe_jobs.message import Retry

Method = Callable[..., Any] | str
Value = TypeVar("Value")
When = TypeVar("When", contravariant=True)
P = ParamSpec("P")


# As the overloads of enqueue, without a call here.
# fmt: off
class Later(Protocol[When]):
    """``enqueue`` for a later time."""

    @overload
    def __call__(
        self, when: When, method: Callable[P, Value], /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: Literal[False] = False, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: Literal[False] = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        *args: P.args, **kwargs: P.kwargs,
    ) -> Job[Value]: ...

    @overload
    def __call__(
        self, when: When, method: Callable[P, Value], /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: Literal[False] = False, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: bool = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        *args: P.args, **kwargs: P.kwargs,
    ) -> Job[Value] | None: ...

    @overload
    def __call__(
        self, when: When, method: Callable[P, Value], /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: Literal[True] = True, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: bool = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        *args: P.args, **kwargs: P.kwargs,
    ) -> None: ...

    @overload
    def __call__(
        self, when: When, method: Callable[P, Value], /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: bool = False, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: bool = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        *args: P.args, **kwargs: P.kwargs,
    ) -> Any: ...

    @overload
    def __call__(
        self, when: When, method: str, /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: Literal[False] = False, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: Literal[False] = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        **kwargs: Any,
    ) -> Job[Any]: ...

    @overload
    def __call__(
        self, when: When, method: str, /, queue: str | None = None,
        timeout: int | None = None, event: str | None = None, is_async: Literal[True] = True,
        job_name: str | None = None, now: Literal[False] = False,
        enqueue_after_commit: bool = False, on_success: Method | None = None,
        on_failure: Method | None = None, at_front: bool = False,
        at_front_when_starved: bool = False, job_id: str | None = None,
        deduplicate: bool = False, track_job: bool = False,
        retry: int | Retry | None = None, debounce: bool = False,
        concurrency_key: str | None = None, expires: Expiry = None,
        **kwargs: Any,
    ) -> Any: ...


# fmt: on
def typed_as_enqueue(function: Callable[Concatenate[When, ...], Any]) -> Later[When]:
    """The function as it is; checkers know that its options are enqueue's."""
    return cast(Later[When], function)
