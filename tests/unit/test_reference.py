"""docs/settings.md and docs/api.md are what the code says."""

from __future__ import annotations

import importlib.util
from dataclasses import make_dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

import frappe_jobs
from frappe_jobs.config import option, settings_table, whole_number

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("settings.md", "api.md", "frappe-jobs.1")


@pytest.fixture
def generate() -> ModuleType:
    """The generator, a module of its own for each test."""
    return loaded("generate")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_public_is_explained(generate):
    assert generate.gaps() == []


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(generate, name):
    assert set(generate.PAGES) == set(PAGES)
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == generate.PAGES[name](), "run: make reference"


def test_the_picture_of_where_jobs_wait_is_what_its_code_draws():
    picture = loaded("order_picture")
    drawn = picture.picture()
    assert picture.PATH.read_text(encoding="utf-8") == drawn, "run: make reference"
    ElementTree.fromstring(drawn)  # an error if it is no XML


def test_each_public_name_is_on_the_page(generate):
    page = generate.api_page()
    missing = [
        name
        for name in frappe_jobs.__all__
        if f"### {name}\n" not in page and f"- `{name}` – " not in page
    ]
    assert missing == []


def test_each_setting_is_on_the_page_with_its_unit(generate):
    page = generate.settings_page()
    for item in settings_table():
        named = "–" if item.metadata["is_of_file"] else "`FRAPPE_"
        assert f"| `{item.metadata['key']}` | {named}" in page
    assert "| `frappe_jobs_timeout_grace` | `FRAPPE_JOBS_TIMEOUT_GRACE` |" in page
    assert "| a whole number, 1 or more | 10 | s |" in page


def test_a_setting_without_doc_or_unit_is_a_gap(generate, monkeypatch):
    silent = make_dataclass(
        "Silent", [("silent", int, option("silent", 5, "", parse=whole_number(1)))]
    )
    monkeypatch.setattr(
        generate, "settings_table", lambda: tuple(silent.__dataclass_fields__.values())
    )
    assert generate.gaps() == ["setting silent has no doc", "setting silent has no unit"]


class Undocumented:
    """A class whose members are silent."""

    @property
    def attribute(self) -> int:
        return 1

    def method(self) -> None:
        pass


def silent_function() -> None:
    pass


class SilentClass:
    pass


def test_a_public_name_or_member_without_a_docstring_is_a_gap(generate, monkeypatch):
    names = {"a": Undocumented, "b": silent_function, "c": SilentClass}
    monkeypatch.setattr(frappe_jobs, "__all__", list(names))
    for name, value in names.items():
        monkeypatch.setattr(frappe_jobs, name, value, raising=False)
    assert generate.gaps() == [
        "a.attribute has no docstring",
        "a.method has no docstring",
        "b has no docstring",
        "c has no docstring",
    ]
