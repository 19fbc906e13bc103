"""Ask many sites at once, and wait for none of them too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

Answer = TypeVar("Answer")

#: Seconds without any answer after which the sites that are still silent are given up.
SILENT_AFTER = 3.0

#: Sites that are asked at once.
THREADS = 8


def ask_each(
    sites: Iterable[str], ask: Callable[[str], Answer], silent_after: float = SILENT_AFTER
) -> dict[str, Answer]:
    """What each site answered, without the sites that were silent.

    ``ask`` raises nothing.
    """
    todo, answers = SimpleQueue[str](), SimpleQueue[tuple[str, Answer]]()
    for site in sites:
        todo.put(site)
    count = todo.qsize()

    def work() -> None:
        while True:
            try:
                site = todo.get_nowait()
            except Empty:
                return
            answers.put((site, ask(site)))

    for _ in range(min(THREADS, count)):  # daemons: a silent site does not keep the process alive
        threading.Thread(target=work, daemon=True, name="ask").start()
    found: dict[str, Answer] = {}
    while len(found) < count:
        try:
            site, answer = answers.get(timeout=silent_after)
        except Empty:
            break
        found[site] = answer
    return found
