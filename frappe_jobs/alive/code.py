"""Which code of the apps a process has begun with, and which is on disk now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OURS = "frappe_jobs"
VERSION = re.compile(r"^__version__\s*=\s*[\"']([\w.+-]{1,40})[\"']", re.MULTILINE)
#: How far above an app's package its checkout may begin.
HEIGHT = 2


@dataclass(frozen=True)
class Code:
    """The apps' code as it is on disk."""

    versions: Mapping[str, str]
    #: When one of their Python files was changed last, in seconds since 1970.
    changed_at: float


def on_disk(apps: Iterable[str]) -> Code:
    """Takes some milliseconds for a thousand files."""
    apps = [*apps]
    changed = (at for app in apps if (folder := folder_of(app)) for at in _changes(folder))
    return Code(versions(apps), max(changed, default=0.0))


def versions(apps: Iterable[str]) -> dict[str, str]:
    """Of these apps and of ours: ``1.2.0 (a1b2c3d)``, the commit where it is a checkout."""
    found = {}
    for app in dict.fromkeys([*apps, OURS]):
        if folder := folder_of(app):
            commit = commit_of(folder)
            named = VERSION.search(_head(folder / "__init__.py"))
            parts = [named[1] if named else "", f"({commit[:7]})" if commit else ""]
            found[app] = " ".join(filter(None, parts)) or "no version"
    return found


def folder_of(app: str) -> Path | None:
    """Where its package lies; it is not imported for that."""
    try:
        spec = find_spec(app)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out there, read without git; None if it is no checkout."""
    for place in (folder, *folder.parents)[: HEIGHT + 1]:
        git = place / ".git"
        if git.is_file():  # a worktree
            git = place / _head(git).partition("gitdir:")[2].strip()
        if head := _head(git / "HEAD").strip():
            return _resolved(git, head)
    return None


def _resolved(git: Path, head: str) -> str | None:
    name = head.partition("ref: ")[2]
    if not name:
        return head if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
    common = git / (_head(git / "commondir").strip() or ".")
    if found := _head(common / name).strip():
        return found
    line = rf"^([0-9a-f]{{40,64}}) {re.escape(name)}$"
    packed = re.search(line, _head(common / "packed-refs", 1_000_000), re.MULTILINE)
    return packed[1] if packed else None


def _head(path: Path, size: int = 4096) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(size)
    except OSError:
        return ""


def _changes(folder: Path | str) -> Iterator[float]:
    """When each Python file below it was changed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in ("node_modules", "__pycache__"):
                        yield from _changes(entry.path)
                elif entry.name.endswith(".py"):
                    yield entry.stat().st_mtime
    except OSError:  # a folder that goes away meanwhile, or is not ours to read
        return
