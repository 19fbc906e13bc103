"""Dotted path ↔ method: which methods a job may run, and whether the arguments fit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pkgutil import iter_modules
from types import FunctionType
from typing import Any, TypeVar

from frappe_jobs.errors import ArgumentError, MethodNotAllowed, MethodNotFound, did_you_mean

Method = TypeVar("Method", bound=Callable[..., Any])

#: Functions that may run though they live in no installed app, by their path (``register``).
_registered: dict[str, Callable[..., Any]] = {}


def register(method: Method) -> Method:
    """Allow a function that lives in no installed app to run as a job; usable as a decorator.

    The worker must import the module that registers it, for example from an app's ``hooks.py``.
    """
    # While a decorator runs, the path does not lead to the function yet, so not path_of.
    path = _path(method)
    if "<" in path:
        raise _unreachable(method, path)
    _registered[path] = method
    return method


def path_of(method: Callable[..., Any]) -> str:
    """The dotted path that leads to this function; raises MethodNotFound if none does.

    A lambda, a nested function or an object under another name has none: no worker would find it.
    """
    path = _path(method)
    try:
        found = _find(path) == method
    except MethodNotFound:
        found = False
    if not found:
        raise _unreachable(method, path)
    return path


def as_path(method: Callable[..., Any] | str) -> str:
    """A dotted path as it is; of a function the one that ``path_of`` gives."""
    return method if isinstance(method, str) else path_of(method)


def resolve(path: str, apps: Collection[str]) -> Callable[..., Any]:
    """The method at that path, if it may run.

    It may if the path begins with one of the apps and the object found is itself defined in one,
    or if it was registered.  Raises MethodNotFound or MethodNotAllowed, before anything is called.
    """
    if path in _registered:
        return _registered[path]
    app, _, rest = path.partition(".")
    if not rest or any(not part.isidentifier() or _is_dunder(part) for part in path.split(".")):
        raise MethodNotFound(
            f"{path!r} is no dotted path of a method, such as 'app.module.function'."
        )
    if app not in apps:
        raise MethodNotAllowed(
            f"{path!r} may not run: {app!r} is no installed app of this site "
            f"({', '.join(apps) or 'it has none'}).{did_you_mean(app, apps)} Install it, or allow "
            "it with register()."
        )
    method = _find(path)
    if path in _registered:  # registered by the import
        return _registered[path]
    if not callable(method):
        raise MethodNotFound(f"{path!r} is a {type(method).__name__}, which cannot be called.")
    require_origin(method, path, apps)
    found: Callable[..., Any] = method
    return found


def require_origin(method: object, path: str, apps: Collection[str]) -> None:
    """Raise MethodNotAllowed unless the object is itself defined in one of the apps."""
    origin = getattr(method, "__module__", None)
    if not isinstance(origin, str) or origin.partition(".")[0] not in apps:
        raise MethodNotAllowed(
            f"{path!r} may not run: what it names comes from {origin!r}, which is no installed app."
        )


def check_arguments(method: Callable[..., Any], path: str, arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError if the method would refuse these keywords."""
    required, taken = _keywords(method)
    if required <= arguments.keys() and (taken is None or arguments.keys() <= taken):
        return
    signature = inspect.signature(method)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ArgumentError(f"{path}{signature}: {error}.") from None


@lru_cache(maxsize=10_000)  # reading a signature costs more than all other checks
def _keywords(method: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str] | None]:
    """The keywords that a method needs, and the keywords that it takes; None: any."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # written in C, or a signature that cannot be read
        return frozenset(), None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = frozenset(item.name for item in parameters if item.kind in by_name)
    needed = [item for item in parameters if item.default is item.empty]
    required = taken & {item.name for item in needed}
    if any(item.kind is item.POSITIONAL_ONLY for item in needed):
        required |= {""}  # which no keywords satisfy
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters)
    return required, None if takes_any else taken


def takes(method: Callable[..., Any], name: str) -> bool:
    """Whether the method has a keyword of that name, or takes any."""
    taken = _keywords(method)[1]
    return taken is None or name in taken


def call(method: Callable[..., Any], /, **arguments: Any) -> Any:
    """Call a hook with the arguments that it takes of these, as Frappe's ``frappe.call`` does."""
    taken = _names(method)
    if taken is None:
        return method(**arguments)
    return method(**{name: value for name, value in arguments.items() if name in taken})


@lru_cache(maxsize=10_000)  # a job has many hooks, and reading a signature costs more than most
def _names(method: Callable[..., Any]) -> frozenset[str] | None:
    """The names of a hook's parameters; None: it takes any."""
    parameters = inspect.signature(method).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)


def _path(method: object) -> str:
    """The path that the object claims; with "<" in it if there is none."""
    module, name = getattr(method, "__module__", None), getattr(method, "__qualname__", None)
    return f"{module or '<no module>'}.{name or '<no name>'}"


def _unreachable(method: object, path: str) -> MethodNotFound:
    return MethodNotFound(
        f"{method!r} cannot be enqueued: its path {path!r} does not lead back to it, so no "
        "worker would find it. Use a function at the top of a module, or its dotted path."
    )


def _names_in(found: object) -> list[str]:
    """What may have been meant: a module's own functions and classes, a package's modules."""
    own, members = getattr(found, "__name__", None), getattr(found, "__dict__", {})
    names = [
        name
        for name, value in members.items()
        if type(value) in (FunctionType, type) and value.__module__ == own  # a proxy is neither
    ]
    return names + [one.name for one in iter_modules(getattr(found, "__path__", None) or [])]


def _is_dunder(part: str) -> bool:
    return part.startswith("__") and part.endswith("__")


def _find(path: str) -> Any:
    """Import the longest part of the path that is a module, and walk the rest by attribute."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                continue  # no such module, so this part is a class
            raise MethodNotFound(f"{path!r}: importing {name} failed: {error!r}.") from error
        except (Exception, SystemExit) as error:  # the module's own code
            raise MethodNotFound(f"{path!r}: importing {name} failed: {error!r}.") from error
        for part in parts[end:]:
            try:
                found = getattr(found, part)
            except AttributeError:
                raise MethodNotFound(
                    f"{path!r} was not found: {name} has no {part!r}."
                    f"{did_you_mean(part, _names_in(found))}"
                ) from None
            except Exception as error:  # a proxy's or a property's own code
                raise MethodNotFound(f"{path!r} was not found: {part!r}: {error!r}.") from error
        return found
    raise MethodNotFound(f"{path!r} was not found: there is no module {parts[0]!r}.")
