"""What waits for the commit of Frappe's database, by its own callbacks."""

from __future__ import annotations

from typing import Any

from frappe_jobs.host.session import Keeper


class Together:
    """The things of one keeper that wait for the same commit.

    Frappe forgets them with its callbacks at a rollback; of a savepoint it does not tell.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._things: list[Any] = []
        self._was_shown = False

    def takes(self, keeper: Keeper) -> bool:
        """Whether more of that keeper may be added."""
        return self._keeper is keeper and not self._was_shown

    def add(self, thing: Any) -> None:
        """Have it wait with the others."""
        self._things.append(thing)

    def before(self) -> None:
        """The callback before the commit."""
        if not self._was_shown:  # after() sets that, too
            self._was_shown = True
            self._keeper.before(self._things)

    def after(self) -> None:
        """The callback after it."""
        self._was_shown = True
        self._keeper.after(self._things)


def show(db: Any) -> None:
    """Show keepers now what waits for the commit of that database's transaction."""
    for call in [*db.after_commit._functions]:
        if isinstance(its := getattr(call, "__self__", None), Together):
            its.before()


def wait(db: Any, keeper: Keeper, thing: Any) -> None:
    """Hand it to its keeper before the transaction of that database commits, and after."""
    for call in reversed(db.after_commit._functions):
        its = getattr(call, "__self__", None)
        if isinstance(its, Together) and its.takes(keeper):
            return its.add(thing)
    made = Together(keeper)
    made.add(thing)
    db.before_commit.add(made.before)
    db.after_commit.add(made.after)
