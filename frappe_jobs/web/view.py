"""What a page is made from, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from frappe_jobs.runtime import Runtime
from frappe_jobs.web.access import Person
from frappe_jobs.web.audit import Audit
from frappe_jobs.web.bench_picture import BenchPicture
from frappe_jobs.web.runs import Runs

NOT_HERE = "There is nothing here: it never was, is no longer kept, or is not yours to see."


class NotHere(Exception):
    """There is no such thing, or it is none of theirs: the page does not say which."""


@dataclass(frozen=True)
class View:
    """One look at a page: of which bench, by whom, with which parameters in the address."""

    here: Runtime
    picture: BenchPicture
    audit: Audit
    runs: Runs
    person: Person
    query: Sequence[tuple[str, str]] = ()
    #: Where the Desk is, if that is known: ``/app`` from within it.
    desk: str | None = None

    def all_of(self, name: str) -> list[str]:
        """The values of a parameter that may be given more than once."""
        return [value for key, value in self.query if key == name and value]

    def one_of(self, name: str) -> str | None:
        """A parameter's value, the last if it is given twice; None if it is not."""
        return next(reversed(self.all_of(name)), None)

    @cached_property
    def sites(self) -> Sequence[str]:
        """The sites that the person sees."""
        seen = self.person.sites
        if seen is None:
            return self.picture.sites()
        return sorted(filter(self.here.settings.sites.has, seen))

    def is_site(self, name: str) -> bool:
        """Whether it is one of those."""
        return self.person.sees(name) and self.here.settings.sites.has(name)

    @property
    def named_site(self) -> str:
        """The site that the address names, else the only one that they may see, else empty."""
        only = [*(self.person.sites or ())]
        return self.one_of("site") or (only[0] if len(only) == 1 else "")

    def site(self) -> str:
        """``named_site``; raises NotHere if there is none, also for one that they may not see."""
        site = self.named_site
        if not self.is_site(site):
            raise NotHere
        return site


@dataclass(frozen=True)
class Page:
    """One of the pages: its path, its name in the menu, and what its template is filled with."""

    path: str
    title: str
    template: str
    read: Callable[[View], Mapping[str, Any]]
    #: Whether it tells of the whole bench, so that who sees only some sites has no use for it.
    whole_bench: bool = False
    #: The role that may look at it.
    role: str = "read-only"
    #: In the menu.
    in_menu: bool = True
    #: Whether it changes by itself while it is open.
    live: bool = True
    #: Seconds between two looks then.
    pace: float = 2.0

    def is_for(self, person: Person) -> bool:
        return person.may(self.role) and (person.sees_all or not self.whole_bench)
