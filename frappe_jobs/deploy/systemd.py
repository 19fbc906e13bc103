"""Units for systemd: a service for each process, and a target that starts and stops them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from frappe_jobs.deploy.place import Place
from frappe_jobs.deploy.processes import Process
from frappe_jobs.errors import ConfigError

#: A word that means itself, wherever it stands.
PLAIN = re.compile(r"[A-Za-z0-9_./:=+@-]+")

#: Characters that systemd refuses in a program's name.
UNSAFE = {*"\"'\\"}

#: Where programs are on every system, for those that jobs start.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def systemd(processes: Sequence[Process], place: Place) -> dict[str, str]:
    """The texts of the units by their file names."""
    bench = f"frappe-jobs-{place.name}"
    services = {f"{bench}-{process.name}.service": process for process in processes}
    target = f"{bench}.target"
    texts = {target: "\n".join(_target(place, services)) + "\n"}
    for name, process in services.items():
        texts[name] = "\n".join(_service(process, place, target)) + "\n"
    return texts


def _target(place: Place, services: Iterable[str]) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description=The background jobs of {_specified(place.bench_id)}"
    yield from (f"Wants={name}" for name in services)
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"


def _service(process: Process, place: Place, target: str) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description={process.name} of {_specified(place.bench_id)}"
    yield "Wants=network-online.target"
    yield "After=network-online.target"
    yield f"PartOf={target}"
    yield "StartLimitIntervalSec=0"
    yield ""
    yield "[Service]"
    yield f"User={_specified(place.user)}"
    # The dot keeps a space or a backslash at the end from meaning something else.
    yield f"WorkingDirectory={_specified(str(place.folder))}/."
    yield f"Environment={_word(f'SITES_PATH={place.sites_path}')}"
    yield f"Environment={_word(f'PATH={place.bin}:{PATH}')}"
    yield f"ExecStart={_command(place.words(process))}"
    yield "Restart=always"
    yield "RestartSec=1"
    # The worker alone is told to stop: it lets its processes finish what they run.
    yield "KillMode=mixed"
    yield f"TimeoutStopSec={process.stop_wait}"
    yield ""
    yield "[Install]"
    yield f"WantedBy={target}"


def _command(words: Sequence[str]) -> str:
    if UNSAFE.intersection(words[0]):
        if "=" in words[0]:
            raise ConfigError(
                f"systemd cannot be told of {words[0]!r}, with '=' beside quotes or backslashes. "
                "Use another folder."
            )
        words = ["/usr/bin/env", *words]
    program, *arguments = words
    return " ".join([_word(program), *(_word(word).replace("$", "$$") for word in arguments)])


def _word(text: str) -> str:
    if PLAIN.fullmatch(text):
        return text
    quoted = _specified(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _specified(text: str) -> str:
    return text.replace("%", "%%")
