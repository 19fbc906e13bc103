"""A path leads to a function of an installed app, or to a clear error; nothing else is called."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import acme.tasks
import pytest

from frappe_jobs import methods
from frappe_jobs.errors import ArgumentError, MethodNotAllowed, MethodNotFound
from frappe_jobs.methods import call, check_arguments, path_of, register, require_origin, resolve


@pytest.fixture
def write_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes an app's modules, to be imported by their names; forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    written: set[str] = set()

    def write(app: str, **modules: str) -> None:
        written.add(app)
        for name, code in ({"__init__": ""} | modules).items():
            file = tmp_path / app / f"{name}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)

    yield write
    for name in [*sys.modules]:
        if name.partition(".")[0] in written:
            del sys.modules[name]


@pytest.fixture
def registered() -> Iterator[None]:
    """What a test registers is forgotten at its end."""
    before = dict(methods._registered)
    yield
    methods._registered.clear()
    methods._registered.update(before)


# --- path_of


class Tool:
    def method(self) -> None: ...

    @classmethod
    def make(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    class Inner:
        @staticmethod
        def static() -> None: ...


def replaced() -> None: ...


first = replaced


def replaced() -> None:  # type: ignore[no-redef]  # noqa: F811
    ...


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (acme.tasks.ping, "acme.tasks.ping"),
        (acme.tasks.Calculator.double, "acme.tasks.Calculator.double"),
        (acme.tasks.Calculator().double, "acme.tasks.Calculator.double"),
        (acme.tasks.Calculator, "acme.tasks.Calculator"),
        (Tool.make, f"{__name__}.Tool.make"),
        (Tool.Inner.static, f"{__name__}.Tool.Inner.static"),
        (os.path.join, "posixpath.join"),
    ],
)
def test_the_path_of_a_method_leads_back_to_it(method: Callable[..., Any], path: str) -> None:
    assert path_of(method) == path


def nest() -> Callable[[], None]:
    def nested() -> None: ...

    return nested


@pytest.mark.parametrize(
    "method",
    [
        lambda: None,
        nest(),
        functools.partial(acme.tasks.add, 1),
        Tool().method,
        acme.tasks.Calculator(),
        first,
        functools.wraps(acme.tasks.ping)(lambda: "another"),
    ],
    ids=["lambda", "nested", "partial", "bound", "instance", "replaced", "wrapper"],
)
def test_what_its_own_path_does_not_lead_back_to_is_an_error_that_names_it(
    method: Callable[..., Any],
) -> None:
    with pytest.raises(MethodNotFound, match="does not lead back to it, so no worker") as error:
        path_of(method)
    assert str(error.value).startswith(f"{method!r} cannot be enqueued: its path '")


@pytest.mark.parametrize("module", [None, "", ".", ".relative", "no_such_module", "a b"])
def test_a_function_of_a_made_up_module_has_no_path(module: Any) -> None:
    def function() -> None: ...

    function.__module__, function.__qualname__ = module, "function"
    with pytest.raises(MethodNotFound, match="does not lead back"):
        path_of(function)


# --- resolve


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("acme.tasks.ping", acme.tasks.ping),
        ("acme.tasks.Calculator.double", acme.tasks.Calculator.double),
        ("acme.tasks.Calculator", acme.tasks.Calculator),
        ("acme.tasks.mark", acme.trace.mark),
    ],
)
def test_a_method_of_an_installed_app_is_found(path: str, method: object) -> None:
    assert resolve(path, ["shop", "acme"]) is method


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("acme.tasks.system", os.system.__module__),
        ("acme.tasks.os.system", os.system.__module__),
        ("acme.tasks.os.path.join", "posixpath"),
        ("acme.tasks.Path", Path.__module__),
        ("acme.tasks.os.environ.clear", "collections.abc"),
        ("acme.trace.json.loads", "json"),
        ("acme.tasks.frappe.enqueue", "frappe_jobs.api"),
        ("acme.models.Base.metadata.create_all", "sqlalchemy.sql.schema"),
        ("acme.models.Account.save", "frappe_jobs.standalone.document"),
        ("acme.models.Account.mro", None),
    ],
)
def test_what_an_app_merely_imports_may_not_run(path: str, origin: str | None) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        resolve(path, ["acme"])
    assert str(refused.value) == (
        f"{path!r} may not run: what it names comes from {origin!r}, which is no installed app."
    )


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "acmeevil.tasks.x", "Acme.tasks.x"])
@pytest.mark.parametrize("apps", [["acme"], []], ids=["acme", "none"])
def test_a_path_that_begins_with_no_installed_app_is_not_even_imported(
    path: str, apps: list[str], write_app: Callable[..., None]
) -> None:
    for app in ("acmeevil", "Acme"):
        write_app(app, __init__="raise AssertionError", tasks="def x(): pass")
    with pytest.raises(MethodNotAllowed, match="is no installed app of this site") as refused:
        resolve(path, apps)
    assert f"({', '.join(apps) or 'it has none'})" in str(refused.value)
    assert str(refused.value).startswith(f"{path!r} may not run: ")


def test_an_app_whose_name_merely_begins_like_an_installed_one_is_another(
    write_app: Callable[..., None],
) -> None:
    write_app("acmeevil", tasks="def x(): pass")
    write_app("goodapp", tasks="from acmeevil.tasks import x")
    with pytest.raises(MethodNotAllowed, match="comes from 'acmeevil.tasks'"):
        resolve("goodapp.tasks.x", ["goodapp", "acme"])


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "acme", "acme.", ".acme", "acme..ping", "acme.tasks.ping.", "ping",
        "acme.tasks.__builtins__.eval", "acme.tasks.ping.__call__", "acme.__class__",
        "__main__.x", "acme.tasks.ping.__globals__.clear", "acme.tasks.__",
        "acme.tasks.ping()", "acme tasks.ping", "acme.tasks ping", "acme/tasks.ping",
        "acme.tasks:ping", "acme.tasks.ping\n", "acme.tasks.0", "acme.tasks.<lambda>",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_dotted_path_is_refused(path: str) -> None:
    with pytest.raises(MethodNotFound, match="is no dotted path of a method") as refused:
        resolve(path, ["acme", "__main__", "", "ping", "acme tasks"])
    assert str(refused.value).startswith(f"{path!r} ")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("acme.tasks.nope", "acme.tasks has no 'nope'"),
        ("acme.nope.ping", "acme has no 'nope'"),
        ("acme.tasks.nope.ping", "acme.tasks has no 'nope'"),
        ("acme.tasks.Calculator.nope", "acme.tasks has no 'nope'"),
        ("acme.tasks.ping.nope", "acme.tasks has no 'nope'"),
        ("nosuchapp.tasks.ping", "there is no module 'nosuchapp'"),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_that_says_where_it_ends(
    path: str, says: str
) -> None:
    with pytest.raises(MethodNotFound) as missing:
        resolve(path, ["acme", "nosuchapp"])
    assert str(missing.value) == f"{path!r} was not found: {says}."


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("acme.tasks", "module"),
        ("acme.hooks.before_job", "list"),
        ("acme.hooks.after_job", "str"),
        ("acme.models.Account.balance", "InstrumentedAttribute"),
    ],
)
def test_what_cannot_be_called_is_an_error(path: str, kind: str) -> None:
    with pytest.raises(MethodNotFound, match=f"^'{path}' is a {kind}, which cannot be called.$"):
        resolve(path, ["acme"])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError"),
        ("import brokenapp.nope", "ModuleNotFoundError"),
        ("import broken", "ModuleNotFoundError"),
        ("from acme.tasks import nope", "ImportError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def x(:", "SyntaxError"),
    ],
)
def test_a_module_that_fails_on_import_is_an_error_with_the_cause(
    code: str, error: str, write_app: Callable[..., None]
) -> None:
    write_app("brokenapp", tasks=code)
    with pytest.raises(MethodNotFound, match="importing brokenapp.tasks failed") as broken:
        resolve("brokenapp.tasks.x", ["brokenapp"])
    assert error in str(broken.value)
    assert type(broken.value.__cause__).__name__ == error


def test_an_app_that_fails_on_import_is_an_error_with_the_cause(
    write_app: Callable[..., None],
) -> None:
    write_app("brokenapp", __init__="import no_such_library", tasks="def x(): pass")
    with pytest.raises(MethodNotFound, match="importing brokenapp.* failed.*no_such_library"):
        resolve("brokenapp.tasks.x", ["brokenapp"])


def test_an_object_that_fails_when_it_is_looked_into_is_an_error_of_ours(
    write_app: Callable[..., None],
) -> None:
    write_app("lazyapp", tasks="class X:\n def __getattr__(self, name): 1 / 0\nlazy = X()")
    with pytest.raises(MethodNotFound, match="'x': ZeroDivisionError"):
        resolve("lazyapp.tasks.lazy.x", ["lazyapp"])


def test_nothing_is_called_while_a_method_is_looked_for(write_app: Callable[..., None]) -> None:
    write_app("calmapp", tasks="def x(): raise AssertionError")
    assert callable(resolve("calmapp.tasks.x", ["calmapp"]))


@pytest.mark.parametrize("origin", [None, 5, "", "acmeevil.tasks", "posix", "Acme.tasks"])
def test_an_object_of_doubtful_origin_may_not_run(origin: Any) -> None:
    def method() -> None: ...

    method.__module__ = origin
    with pytest.raises(MethodNotAllowed, match="'acme.x' may not run"):
        require_origin(method, "acme.x", ["acme"])


# --- register


@pytest.mark.usefixtures("registered")
def test_a_registered_function_may_run_though_its_app_is_not_installed() -> None:
    path = path_of(register(os.getcwd))
    assert resolve(path, []) is os.getcwd


@pytest.mark.usefixtures("registered")
def test_registering_one_function_allows_no_other_of_its_module() -> None:
    register(os.getcwd)
    for path in (f"{os.getcwd.__module__}.system", "os.system", "os.getcwd"):
        with pytest.raises(MethodNotAllowed):
            resolve(path, ["acme"])


@pytest.mark.usefixtures("registered")
def test_register_is_a_decorator(write_app: Callable[..., None]) -> None:
    write_app(
        "outside", tools="from frappe_jobs import register\n@register\ndef x(): return 'ran'\n"
    )
    x = importlib.import_module("outside.tools").x
    assert resolve("outside.tools.x", []) is x
    assert path_of(x) == "outside.tools.x"


@pytest.mark.usefixtures("registered")
def test_a_function_that_its_apps_import_registers_may_run(write_app: Callable[..., None]) -> None:
    write_app(
        "wrapapp",
        tasks="import os, frappe_jobs\n"
        "class x:\n __module__, __qualname__ = 'wrapapp.tasks', 'system'\n"
        "system = os.system\n"
        "frappe_jobs.register(x)\n",
    )
    assert resolve("wrapapp.tasks.system", ["wrapapp"]).__name__ == "x"


@pytest.mark.parametrize(
    "method",
    [lambda: None, nest(), functools.partial(print), [].append],
    ids=["lambda", "nested", "partial", "of a list"],
)
def test_what_has_no_path_cannot_be_registered(method: Callable[..., Any]) -> None:
    with pytest.raises(MethodNotFound, match="does not lead back to it"):
        register(method)


# --- arguments


def takes(x: int, y: int = 0, *, z: int = 0) -> None: ...


def takes_all(x: int, **more: int) -> None: ...


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (takes, {"x": 1}),
        (takes, {"x": 1, "y": 2, "z": 3}),
        (takes_all, {"x": 1, "self": 2, "method": 3, "path": 4}),
        (dict, {"anything": 1}),
        (max, {"no": "signature"}),
    ],
)
def test_arguments_that_fit_are_fine(method: Callable[..., Any], arguments: Any) -> None:
    check_arguments(method, "acme.x", arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "says"),
    [
        (takes, {}, "missing a required argument: 'x'"),
        (takes, {"x": 1, "q": 2}, "got an unexpected keyword argument 'q'"),
        (takes_all, {}, "missing a required argument: 'x'"),
        (acme.tasks.ping, {"self": 1}, "got an unexpected keyword argument 'self'"),
        (len, {"obj": []}, "'obj'"),
    ],
)
def test_arguments_that_do_not_fit_are_an_error_with_the_signature(
    method: Callable[..., Any], arguments: Any, says: str
) -> None:
    with pytest.raises(ArgumentError) as refused:
        check_arguments(method, "acme.x", arguments)
    assert str(refused.value).startswith("acme.x(")
    assert says in str(refused.value)


def test_the_error_shows_what_the_method_takes() -> None:
    with pytest.raises(ArgumentError, match=r"^acme\.tasks\.add\(x: int, y: int = 0\) -> int: "):
        check_arguments(acme.tasks.add, "acme.tasks.add", {"z": 1})


@pytest.mark.parametrize(
    ("hook", "result"),
    [
        (lambda: "none", "none"),
        (lambda method: method, "m"),
        (lambda result, method: (method, result), ("m", "r")),
        (lambda *, result: result, "r"),
        (lambda result=1, other=2: (result, other), ("r", 2)),
        (lambda **all: all, {"method": "m", "kwargs": "k", "result": "r"}),
        (lambda result, **rest: (result, rest), ("r", {"method": "m", "kwargs": "k"})),
        (functools.partial(lambda result, kwargs: (result, kwargs), kwargs="p"), ("r", "k")),
    ],
)
def test_a_hook_gets_those_arguments_that_it_takes(hook: Callable[..., Any], result: Any) -> None:
    assert call(hook, method="m", kwargs="k", result="r") == result


def test_a_hook_that_wants_more_fails_as_a_call_does() -> None:
    with pytest.raises(TypeError, match="wanted"):
        call(lambda wanted: wanted, method="m")
