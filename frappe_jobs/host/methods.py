"""The port to the apps' code: methods by their dotted paths, and what hooks name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from frappe_jobs.methods import check_arguments


class Methods(ABC):
    """What may run on a site."""

    #: The host's own, and ours, by the paths under which their jobs travel.
    own: dict[str, Callable[..., Any]]

    @abstractmethod
    def hooks(self, name: str, site: str) -> list[str]:
        """The dotted paths that the site's apps name under that hook, in the apps' order."""

    @abstractmethod
    def resolve(self, path: str, site: str) -> Callable[..., Any]:
        """The method, if it may run on that site; raises MethodNotFound or MethodNotAllowed."""

    def resolver(self, site: str) -> Callable[[str], Callable[..., Any]]:
        """``resolve`` for many paths of that site; its installed apps are looked up once."""
        return lambda path: self.resolve(path, site)

    def checked(self, path: str, arguments: Mapping[str, Any], site: str) -> Callable[..., Any]:
        """The method, as ``resolve``; raises ArgumentError if it does not take these arguments."""
        method = self.resolve(path, site)
        self.check(method, path, arguments, site)
        return method

    def check(
        self, method: Callable[..., Any], path: str, arguments: Mapping[str, Any], site: str
    ) -> None:
        """Raise ArgumentError if the method, which is the one at that path, does not take these."""
        check_arguments(method, path, arguments)

    @abstractmethod
    def document_method(self, method: Callable[..., Any]) -> tuple[str, Any, str] | None:
        """Doctype, document's name and method's name if it is bound to a document, else None."""
