"""A file for supervisord: a program for each process, and a group of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from frappe_jobs.deploy.place import Place
from frappe_jobs.deploy.processes import Process
from frappe_jobs.errors import ConfigError

#: Begins a comment in the middle of a line.
COMMENT = re.compile(r"(?<=\s)[;#]")

#: supervisord gives a process up after that many starts in a row that failed at once; it waits a
#: second longer after each.
RETRIES = 1_000_000


def supervisor(processes: Iterable[Process], place: Place) -> str:
    """The text of the file, to be included by ``supervisord.conf``.

    Raises ConfigError for a folder that supervisord's form of configuration cannot name.
    """
    programs = {f"{place.name}-{process.name}": process for process in processes}
    parts = ["\n".join(_program(name, process, place)) for name, process in programs.items()]
    parts.append(f"[group:{place.name}]\nprograms={','.join(programs)}")
    return "\n\n".join(parts) + "\n"


def _program(name: str, process: Process, place: Place) -> Iterator[str]:
    yield f"[program:{name}]"
    yield f"command={' '.join(map(_word, place.words(process)))}"
    yield f"directory={_path(str(place.folder))}"
    path = f"{_value(place.bin)[:-1]}:%(ENV_PATH)s{_value(place.bin)[-1]}"
    yield f"environment=SITES_PATH={_value(str(place.sites_path))},PATH={path}"
    yield f"user={_path(place.user)}"
    yield "autorestart=true"
    yield f"startretries={RETRIES}"
    # The worker alone is told to stop: it lets its processes finish what they run.
    yield "stopsignal=TERM"
    yield f"stopwaitsecs={process.stop_wait}"
    yield "stopasgroup=false"
    yield "killasgroup=true"
    yield "redirect_stderr=true"
    # supervisord expands this value alone twice.
    yield f"stdout_logfile={_expanded(_path(str(place.logs / f'{process.name}.log')))}"


def _word(text: str) -> str:
    """A word of a command, which is read by supervisord and then as by a shell."""
    return COMMENT.sub(r"''\g<0>", _expanded(shlex.quote(text)))


def _path(text: str) -> str:
    """A value that stands as it is: there is no way to quote it."""
    if COMMENT.search(text) or text != text.strip():
        raise _unspeakable(text)
    return _expanded(text)


def _value(text: str) -> str:
    """A variable's value in quotes, at whose ends supervisord drops all quotes."""
    quote = "'" if '"' in text else '"'
    if quote in text or text[:1] in "'\"" or text[-1:] in "'\"" or COMMENT.search(text):
        raise _unspeakable(text)
    return quote + _expanded(text) + quote


def _expanded(text: str) -> str:
    return text.replace("%", "%%")


def _unspeakable(text: str) -> ConfigError:
    return ConfigError(
        f"supervisord's file cannot name {text!r}: a comment begins at ' ;' and ' #', and both "
        "kinds of quotes, or quotes and spaces at an end, have no spelling there. Use another "
        "folder, or frappe-jobs setup systemd."
    )
