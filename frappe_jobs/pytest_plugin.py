"""Fixtures for pytest, which finds them by itself; a run that uses none of them loads nothing.

A fixture of yours by the same name takes the place of one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from frappe_jobs.host.session import Session
    from frappe_jobs.runtime import Runtime
    from frappe_jobs.testing import Clock

APPS, SITES = "frappe_jobs_apps", "frappe_jobs_sites"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(APPS, "The apps of the fixture jobs_bench.", "args")
    parser.addini(SITES, "The sites of the fixture jobs_bench.", "args", ["site1"])


@pytest.fixture(scope="session")
def jobs_config() -> dict[str, Any]:
    """What stands in common_site_config.json; yours takes its place."""
    return {}


@pytest.fixture(scope="session")
def jobs_site_config() -> dict[str, Any]:
    """What stands in each site's site_config.json; yours takes its place."""
    return {}


@pytest.fixture(scope="session")
def jobs_bench(
    pytestconfig: pytest.Config, jobs_config: dict[str, Any], jobs_site_config: dict[str, Any]
) -> Iterator[Runtime]:
    """A bench in a temporary folder, on an embedded server, in use for the whole run.

    In the environment it is named only while it is made, and by ``jobs_site``.  Its apps are those
    of the setting ``frappe_jobs_apps``, else the packages in pytest's root folder that have a
    hooks.py.
    """
    from frappe_jobs.testing import benches

    root = pytestconfig.rootpath
    apps = pytestconfig.getini(APPS) or benches.apps_beside(root)
    benches.make_importable(root)
    before = benches.variables()
    with benches.bench(
        apps,
        sites=pytestconfig.getini(SITES),
        config=jobs_config,
        site_config=jobs_site_config,
    ) as made:
        benches.set_variables(before)
        yield made


@pytest.fixture
def jobs_clock() -> Iterator[Clock]:
    """The clock of run_jobs and run_due, at the real time again after the test."""
    from frappe_jobs.testing import clock

    clock.reset()
    yield clock
    clock.reset()


@pytest.fixture
def jobs_site(jobs_bench: Runtime, jobs_clock: Clock) -> Iterator[Session]:
    """The bench's first site, open for Administrator; after the test all is as it was before.

    The database is rolled back, and the server knows of no job.
    """
    from frappe_jobs import runtime
    from frappe_jobs.testing import benches

    path = jobs_bench.settings.sites_path
    runtime.use(path)
    benches.forget_jobs()
    site = jobs_bench.host.sites()[0]
    with benches.environment(path), benches.rolled_back(site) as session:
        yield session
    benches.forget_jobs()
