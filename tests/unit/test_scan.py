"""What the scan says of an app's source, and what it rightly says nothing of."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from frappe_jobs.doctor.scan import folder_of, scan
from frappe_jobs.doctor.scan.source import read_source


def read(text, module="shop.tasks", **options):
    options = {"is_package": False, "on_bench": False, "with_rq": True} | options
    return read_source(textwrap.dedent(text), module, **options)


def said(text, **options):
    """Line and text of each problem."""
    return [(one.line, one.what) for one in read(text, **options).problems]


def of_argument(value, before=""):
    """Why that value as an argument will not travel; empty where nothing is said."""
    text = f"import frappe\n{before}\nfrappe.enqueue('shop.tasks.send', given={value})\n"
    assert not read(text).fault
    found = said(text)
    assert all("argument given cannot travel" in what for _, what in found)
    return found[0][1].partition("it ")[2] if found else ""


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("lambda: 1", "is a lambda."),
        ("(n for n in [1])", "is a generator."),
        ("open('x')", "is an open file."),
        ("frappe.db", "is a connection."),
        ("frappe.local.request", "is a web request."),
        ("frappe.form_dict", "is a proxy of the open request's data."),
        ("map(str, [1])", "is an iterator."),
        ("{'a': 1}.keys()", "is a view of a dict (.keys())."),
        ("type(frappe)", "is a class."),
        ("[1, lambda: 1]", "holds a lambda."),
        ("{'a': {'b': open('x')}}", "holds an open file."),
        ("[open(name) for name in ['x']]", "holds an open file."),
        ("1 if frappe.conf.x else (lambda: 1)", "is a lambda."),
    ],
)
def test_what_the_value_itself_shows(value, what):
    assert of_argument(value) == what


@pytest.mark.parametrize(
    ("before", "value", "what"),
    [
        ("import os.path", "os", "is a module."),
        ("import os.path as p", "p", "is a module."),
        ("def f(): ...", "f", "is a function."),
        ("class A: ...", "A", "is a class."),
        ("class A: ...", "A()", "is an object of the class A."),
        ("class A: ...\nclass B(A): ...", "B()", "is an object of the class B."),
        ("from enum import Enum\nclass A(Enum):\n  red = 1", "A.red", "is a member of an Enum."),
        ("from dataclasses import dataclass\n@dataclass\nclass A: ...", "A()", "is an object of"),
        ("from pathlib import Path as P", "P('x')", "is a Path."),
        ("import io as i", "i.StringIO()", "is a file in memory."),
        ("call = lambda: 1", "call", "is a lambda."),
        ("names = {'a': 1}", "names.values()", "is a view of a dict (.values())."),
    ],
)
def test_what_a_name_means_is_looked_up(before, value, what):
    assert of_argument(value, before).startswith(what)


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("", "b'x'"), ("", "{1, 2}"), ("", "(1, 'a')"), ("", "frappe.session.user"),
        ("", "frappe.local.form_dict"), ("", "frappe.request.url"), ("", "frappe.get_doc('A')"),
        ("", "frappe.db.sql('select 1')"), ("", "frappe._dict(a=1)"), ("", "frappe.cache.keys()"),
        ("", "list(map(str, [1]))"), ("", "f'{1}'"), ("", "unknown"), ("", "unknown.keys()"),
        ("from x import y", "y"), ("from x import Y", "Y()"),
        ("call = lambda: 1\nif frappe.conf.x:\n    call = None", "call"),
        ("x = [x]", "x"), ("x = x", "x.keys()"), ("x = y\ny = x", "x"),
        ("def open(name): return name", "open('x')"),
        ("from frappe.model.document import Document\nclass A(Document): ...", "A({})"),
        ("from x import Base\nclass A(Base): ...", "A()"),
        ("class A(metaclass=type): ...", "A()"),
        ("from enum import Enum\nclass A(Enum):\n  red = 1", "A.red.value"),
        ("call = lambda: 1", "[call for call in [1]]"),
        ("from typing import TypedDict\nclass A(TypedDict): ...", "A(a=1)"),
    ],
)  # fmt: skip
def test_what_travels_or_cannot_be_told_is_not_mentioned(before, value):
    assert of_argument(value, before) == ""


@pytest.mark.parametrize(
    "call",
    [
        "import frappe\nfrappe.enqueue({})",
        "import frappe as f\nf.enqueue({})",
        "from frappe import enqueue\nenqueue({})",
        "from frappe import enqueue as later\nlater({})",
        "import frappe.utils.background_jobs\nfrappe.utils.background_jobs.enqueue({})",
        "from frappe.utils import background_jobs as jobs\njobs.enqueue({})",
        "from frappe.utils.background_jobs import enqueue\ndef f():\n  enqueue({})",
        "def f():\n  from frappe.utils.background_jobs import enqueue\n  enqueue({})",
        "import frappe_jobs as frappe\nfrappe.enqueue({})",
        "from frappe_jobs.api import enqueue\nenqueue({})",
    ],
)
def test_enqueue_is_known_by_every_name(call):
    (found,) = read(call.format("'a.b', x=lambda: 1")).problems
    assert "the argument x cannot travel as JSON: it is a lambda." in found.what
    assert read(call.format("'a.b', x=1")).calls == 1


def test_a_relative_import_is_understood():
    text = "from .background_jobs import enqueue\nenqueue('a.b', x=lambda: 1)"
    assert len(said(text, module="frappe.utils.doctor")) == 1
    assert len(said(text, module="frappe.utils", is_package=True)) == 1
    assert said(text, module="shop.utils.doctor") == []


@pytest.mark.parametrize(
    "text",
    [
        "from shop import enqueue\nenqueue(lambda: 1)",
        "def f(frappe):\n  frappe.enqueue(lambda: 1)",
        "class A:\n  def enqueue(self, x): ...\nA().enqueue(lambda: 1)",
        "import frappe\nfrappe.get_doc('A').enqueue(x=lambda: 1)",
        "import frappe\nfrappe.enqueue('a.b', now=True, x=lambda: 1)",
        "import frappe\nfrappe.enqueue('a.b', is_async=False, x=lambda: 1)",
        "import frappe\nfrappe.enqueue('a.b', **unknown)",
        "import frappe\nfrappe.enqueue(*unknown)",
        "import frappe\nfrappe.enqueue()",
    ],
)
def test_other_calls_and_those_that_send_nothing_are_not_mentioned(text):
    assert said(text) == []


def test_now_that_is_only_known_at_run_time_may_send():
    assert len(said("import frappe\nfrappe.enqueue('a.b', now=frappe.flags.x, y=lambda: 1)")) == 1


METHODS = """
import frappe
from functools import partial

def at_top(): ...

def f(given):
    def inner(): ...
    frappe.enqueue(lambda: 1)
    frappe.enqueue(method=inner)
    frappe.enqueue(partial(at_top, 1))
    frappe.enqueue(at_top, on_success=lambda *_: 1, on_failure=at_top)
    frappe.enqueue(at_top)
    frappe.enqueue(given)
    frappe.enqueue(given.method)
    frappe.enqueue("shop.tasks.at_top")
"""


def test_a_method_that_no_worker_would_find_is_told():
    assert said(METHODS) == [
        (9, "frappe.enqueue: no worker would find the method: it is a lambda."),
        (10, "frappe.enqueue: no worker would find the method: it is a function defined inside "
             "another."),
        (11, "frappe.enqueue: no worker would find the method: it is a functools.partial."),
        (12, "frappe.enqueue: no worker would find on_success: it is a lambda."),
    ]  # fmt: skip


OF_OBJECTS = """
import frappe
from frappe.model.document import Document

class Invoice(Document):
    def on_submit(self):
        frappe.enqueue(self.send, invoice=self)
        frappe.enqueue("a.b", call=self.send)
    def send(self): ...

class Mixin:
    def later(self):
        frappe.enqueue(self.later, me=self)

class Builder:
    def __init__(self): ...
    def later(self):
        frappe.enqueue(self.work)
        frappe.enqueue("a.b", me=self, name=self.name)
        [frappe.enqueue("a.b", me=self) for _ in "a"]
        def inner(self):
            frappe.enqueue("a.b", given=self)
    def work(self): ...
    @classmethod
    def made(cls):
        frappe.enqueue(cls.made, kind=cls)
    @staticmethod
    def free(self):
        frappe.enqueue("a.b", given=self)
    def other(this, self):
        frappe.enqueue("a.b", given=self)
"""


def test_self_is_told_where_it_is_surely_no_document():
    here = "an object of the class Builder, which is no document."
    assert said(OF_OBJECTS) == [
        (8, "frappe.enqueue: the argument call cannot travel as JSON: it is a method of this "
            "object."),
        (18, f"frappe.enqueue: no worker would find the method: it is a method of {here}"),
        (19, f"frappe.enqueue: the argument me cannot travel as JSON: it is {here}"),
        (20, f"frappe.enqueue: the argument me cannot travel as JSON: it is {here}"),
        (26, "frappe.enqueue: the argument kind cannot travel as JSON: it is a class."),
    ]  # fmt: skip

    # There it goes with its object.
    assert [line for line, _ in said(OF_OBJECTS, on_bench=True)] == [8, 19, 20, 26]


LOCAL = """
import frappe

def f():
    with open("x") as file:
        frappe.enqueue("a.b", file=file)
    try:
        ...
    except ValueError as error:
        frappe.enqueue("a.b", error=error, text=str(error))
    arguments = {"call": lambda: 1, "n": 1}
    frappe.enqueue("a.b", **arguments)
    frappe.enqueue("a.b", **{"call": frappe.db})

def g(file, error):
    frappe.enqueue("a.b", file=file, error=error)

shared = {"file": unknown}

def h():
    unknown = open("x")
    frappe.enqueue("a.b", **shared)

class A:
    opened = open("x")
    def method(self):
        frappe.enqueue("a.b", opened=opened)
"""


def test_what_a_function_has_made_before_is_seen_in_it_alone():
    assert [(line, what.partition("it is ")[2]) for line, what in said(LOCAL)] == [
        (6, "an open file."), (10, "an exception."), (11, "a lambda."), (13, "a connection."),
    ]  # fmt: skip


def test_enqueue_doc_and_enqueue_many_are_read_as_well():
    text = """
    import frappe, frappe_jobs
    frappe.enqueue_doc("Item", "a", "send", queue="long", x=lambda: 1)
    frappe.enqueue_doc("Item", name=lambda: 1)
    frappe_jobs.enqueue_many([{"method": "a.b", "x": 1}, {"method": lambda: 1}])
    frappe_jobs.enqueue_many([dict(method="a.b", x=map(str, [n])) for n in [1]])
    frappe_jobs.enqueue_many(items=[{"method": "a.b", "x": open("x")}])
    """
    assert [line for line, _ in said(text)] == [3, 5, 6, 7]


PAST = """
import rq
from rq import Queue, get_current_job
from rq.timeouts import JobTimeoutException
from rq.exceptions import NoSuchJobError
from frappe.utils import background_jobs
from frappe.utils.background_jobs import enqueue, get_jobs, get_queue, get_redis_conn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from rq.job import Job

def f():
    rq.get_current_job()
    rq.Worker.all()
    background_jobs.get_queue("long")
    background_jobs.get_redis_conn()
    from rq.registry import StartedJobRegistry
"""


def test_what_passes_by_the_seam_is_told_and_what_means_the_same_is_not():
    assert [(line, what.split()[0]) for line, what in said(PAST)] == [
        (3, "rq.Queue"), (7, "get_queue"), (7, "get_redis_conn"), (14, "rq.Worker"),
        (16, "frappe.utils.background_jobs.get_redis_conn"), (17, "rq.registry.StartedJobRegistry"),
    ]  # fmt: skip
    assert said(PAST, with_rq=False) == []


@pytest.mark.parametrize("text", ["def f(:", "\0", b"# coding: nope\n", b"\xff = 1", "(" * 5000])
def test_what_is_no_python_is_a_fault_and_no_traceback(text):
    assert read_source(text, "a", is_package=False, on_bench=True, with_rq=True).fault


def test_a_folder_is_read_without_its_tests_and_without_running_anything(tmp_path: Path):
    app = tmp_path / "shop"
    bad = "import frappe\nraise SystemExit('run')\nfrappe.enqueue(lambda: 1)\n"
    for name in ("__init__.py", "a/b.py", "tests/c.py", "a/test_d.py", ".hidden/e.py"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(bad)
    (app / "a" / "broken.py").write_text("def f(:\n")
    os.symlink(app, app / "loop")
    *found, last = scan({"shop": app, "gone": None}, on_bench=True)
    assert [(one.level, one.what.partition(": ")[0]) for one in found] == [
        ("warning", "shop/__init__.py:3"),
        ("warning", "shop/a/b.py:3"),
        ("warning", "shop/a/broken.py cannot be read, so its calls are not known"),
        ("warning", "gone"),
    ]
    assert all(one.cure for one in found)
    assert (last.level, last.what) == (
        "ok", "3 files of shop read: 2 enqueue calls, 4 findings.",
    )  # fmt: skip


def test_an_app_is_found_without_its_import(tmp_path: Path):
    (tmp_path / "unlucky").mkdir()
    (tmp_path / "unlucky" / "__init__.py").write_text("raise SystemExit('run')")
    assert folder_of("unlucky", tmp_path) == tmp_path / "unlucky"
    assert folder_of("unlucky") is None
    assert folder_of("unlucky.part", tmp_path) is None
    assert folder_of("frappe_jobs") == Path(__file__).parents[2] / "frappe_jobs"
