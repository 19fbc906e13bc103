"""The site that ``make docs`` builds: no warning, no dead link, what a reader must see is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="The extra docs is not installed.")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config: Any = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    build(config)  # aborts at a warning
    return folder


def test_the_name_of_a_file_and_the_set_up_can_be_seen(site):
    page = (site / "celery.html").read_text()
    assert "<code>team.py</code>:" in page and "named by <code>REDIS_URL</code>" in page
    assert "In a shell of its own:" in page and "<!-- file" not in page


def test_all_pages_are_there_and_can_be_searched(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "changes"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    found = {
        one["location"]
        for one in json.loads((site / "search/search_index.json").read_text())["docs"]
    }
    assert {"testing.html", "enqueue.html#queue"} <= found


def test_a_file_that_a_page_links_to_is_on_the_site(site):
    linked = (site / "files/examples/deploy/logrotate.conf").read_text()
    assert linked == (ROOT / "examples/deploy/logrotate.conf").read_text()


def test_the_list_for_machines_names_every_page(site):
    lines = (site / "llms.txt").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert f"]({name}): " in lines
    assert "# Testing your jobs" in (site / "llms-full.txt").read_text()


def test_nothing_is_fetched_from_elsewhere_to_look_right(site):
    page = (site / "quickstart.html").read_text()
    assert "fonts.googleapis" not in page and 'src="http' not in page
