from __future__ import annotations

import pytest
from taker import Taker

from frappe_jobs import runtime


@pytest.fixture
def here(bench):
    """The runtime of the test's bench."""
    return runtime.current()


@pytest.fixture
def taker(here):
    """Makes a worker's connection to Redis for these queues, or the default one."""
    made = []

    def make(*queues, **options):
        made.append(Taker(here, *queues or ("default",), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
