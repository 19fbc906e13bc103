"""For mkdocs: the pages that lie outside of docs/, files that pages link to, llms.txt."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Pages of the repository's own folder, by their names on the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGES.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"(\]\()([^)\s:#]+)")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside, and every other file that a page links to."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    for page in [file for file in files if file.is_documentation_page()]:
        here = _place(page.src_uri)
        for _, target in LINK.findall(page.content_string):
            path = normpath(f"{dirname(here)}/{target}") if dirname(here) else normpath(target)
            name = _name(path)
            if not files.get_file_from_path(name) and (ROOT / path).is_file():
                files.append(File.generated(config, name, content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links lead to where the files are on the site."""
    here = _place(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        path = normpath(f"{dirname(here)}/{found[2]}") if dirname(here) else normpath(found[2])
        if not (ROOT / path).is_file():
            return found[0]  # mkdocs says that it is dead
        return found[1] + relpath(_name(path), dirname(page.file.src_uri) or ".")

    return LINK.sub(led, markdown)


def on_post_build(config: Any) -> None:
    """Write llms.txt: a line for each page; and llms-full.txt: all of them."""
    pages = [ROOT / source for source in OUTSIDE] + sorted((ROOT / "docs").rglob("*.md"))
    lines, texts = ["# frappe_jobs", "", f"> {config['site_description']}", "", "## Pages", ""], []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        title = TITLE.search(text)
        url = _name(page.relative_to(ROOT).as_posix()).removesuffix(".md") + ".html"
        lines.append(f"- [{title[1] if title else page.stem}]({url}): {_first_sentence(text)}")
        texts.append(text)
    folder = Path(config["site_dir"])
    (folder / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "llms-full.txt").write_text("\n\n".join(texts), encoding="utf-8")


def _first_sentence(text: str) -> str:
    for paragraph in text.split("\n\n"):
        if paragraph[:1] not in ("#", "*", "<", "`", "[", "!", "|", "-", ""):
            return (
                " ".join(re.sub(r"\]\([^)]*\)|\[", "", paragraph).split())
                .split(". ")[0]
                .rstrip(".:")
            )
    return ""


def _place(name: str) -> str:
    """Where a page of the site lies in the repository."""
    outside = {name: source for source, name in OUTSIDE.items()}
    return outside.get(name, f"docs/{name}")


def _name(path: str) -> str:
    """What a file of the repository is called on the site."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
