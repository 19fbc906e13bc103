"""The page of what holds quotes the last full run of the chaos tests."""

from __future__ import annotations

from pathlib import Path

from chaos.report import Row, text, write

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_quotes_the_last_run() -> None:
    page = DOCS.joinpath("guarantees.md").read_text(encoding="utf-8")
    found = DOCS.joinpath("chaos.txt").read_text(encoding="utf-8")
    assert f"```text\n{found}```\n" in page
    assert "full form" in found and "MISSED" not in found


def test_a_row_that_failed_is_named_so_and_the_page_is_renewed(tmp_path: Path) -> None:
    page = DOCS.joinpath("guarantees.md").read_text(encoding="utf-8")
    tmp_path.joinpath("guarantees.md").write_text(page, encoding="utf-8")
    found = text("seed 7", [Row("kills", "redis", "1 lost", False), Row("kills", "x", "0", True)])
    write(found, tmp_path)
    assert "redis     MISSED: 1 lost" in found
    assert f"```text\n{found}```\n" in tmp_path.joinpath("guarantees.md").read_text()
    assert found.count("\nkills\n") == 1
