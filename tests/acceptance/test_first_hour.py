"""A newcomer's first hour: from the wheel to a tested job, with no step that is not on a page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from frappe_jobs.testing import wait_until
from tests.acceptance.test_docs import ROOT, Page, blocks, run

#: Each page in an empty folder, in the order in which they send their reader on.
PAGES = ("quickstart.md", "testing.md")
#: What the pages have their reader install; here in the wheel's place of a checkout.
INSTALL = "pip install -e '.[standalone,embedded]'"

pytestmark = pytest.mark.skipif(
    not {"CI", "FIRST_HOUR"} & {*os.environ}, reason="It installs anew; FIRST_HOUR=1 has it run."
)


class Bare:
    """Starts the Python of an environment that has nothing but what the pages install."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"

    def start(
        self,
        _: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        *streams: int,
        module: str,
    ) -> subprocess.Popen[bytes]:
        stdin, stdout, stderr = streams
        command = [self.bin / "python", "-m", module]
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=stdin, stdout=stdout, stderr=stderr
        )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    folder = tmp_path_factory.mktemp("newcomer")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True, cwd=folder
    )
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    made = Bare(folder / "env")
    subprocess.run(
        [made.bin / "pip", "install", "--quiet", "--no-compile",
         f"{wheel}[standalone,embedded]", "pytest"], check=True, cwd=folder,
    )  # fmt: skip
    return made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PAGES)
def test_its_pages_work_as_they_stand(name, bare, tmp_path):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert INSTALL in text
    theirs = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    # No redis-server and no other Python's packages are on the path: what is embedded serves.
    environment = theirs | {"PATH": f"{bare.bin}:/usr/bin:/bin"}
    folder = tmp_path / "page"
    folder.mkdir()
    page = Page(folder, tmp_path / "state", {}, environment, bare)
    try:
        run(page, text, name)
        if name == "quickstart.md":
            assert any("jobs show" in block.text for block in blocks(text, name))
    finally:
        page.leave()
        page.close()
    wait_until(lambda: all(process.poll() is not None for process in page.background))
