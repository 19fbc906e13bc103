"""A Frappe bench's tests on a server of their own.

No worker of the bench takes their jobs, and the bench's own jobs are not theirs.
"""

from __future__ import annotations

import atexit
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from frappe_jobs import embedded, runtime
from frappe_jobs.celery.apps import BENCH_APPS
from frappe_jobs.runtime import Runtime

#: When each was made.
_began: WeakKeyDictionary[Runtime, float] = WeakKeyDictionary()


@contextmanager
def apart(here: Runtime) -> Iterator[Runtime]:
    """Inside, that bench's jobs in this process go to an embedded server of this process's."""
    path = here.settings.sites_path
    server = own_server()
    settings = replace(
        here.settings, redis_queue=server, celery_broker_url=None, celery_result_backend=None,
        redbeat_redis_url=None, celery_app=None,
    )  # fmt: skip
    app = BENCH_APPS.pop(path, None)
    try:
        with runtime.replaced(settings) as made:
            _began[made] = time.time()
            yield made
    finally:
        BENCH_APPS.pop(path, None)
        if app:
            BENCH_APPS[path] = app


def began_apart(here: Runtime) -> float | None:
    """Since when a test has that bench to itself; None: it is its own."""
    return _began.get(here)


def is_on_own_server(here: Runtime) -> bool:
    """Whether its jobs are on an embedded server: this process's, or its sites folder's."""
    url = here.in_force.redis_url
    if here.is_bench:
        return own_server.cache_info().currsize > 0 and url == own_server()
    return url == embedded.running(here.settings.sites_path)


@cache
def own_server() -> str:
    """Its URL; it is started once, and stopped when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="frappe_jobs-")
    sites_path = Path(folder.name)

    def stop() -> None:
        embedded.stop(sites_path)
        folder.cleanup()

    url = embedded.start(sites_path)
    atexit.register(stop)
    return url
