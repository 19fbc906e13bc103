"""A Debian release in a folder: made once, by debootstrap, from the system's own archive."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: Where the folders lie, unless FRAPPE_JOBS_TEST_SERVERS says otherwise.
DEFAULT = Path("/var/cache/frappe_jobs/servers")
VARIABLE = "FRAPPE_JOBS_TEST_SERVERS"

PACKAGES = (
    "rabbitmq-server", "redis-server", "redis-sentinel", "valkey-server", "postgresql",
    "mariadb-server", "python3-venv", "make", "git", "gcc",
)  # fmt: skip

#: From the host into the folder, if they are there: names, packages' index, certificates, proxies.
COPIED = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    *map(str, Path("/etc/apt/apt.conf.d").glob("*proxy*")),
)

#: debootstrap's script for a release that it does not know yet.
SCRIPTS = Path("/usr/share/debootstrap/scripts")


class Unavailable(Exception):
    """A folder cannot be had here; the message says why."""


class Folder:
    """One release; what runs in it sees the folder as the root, and the host's /tmp."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.path = Path(os.environ.get(VARIABLE) or DEFAULT) / release
        self._mark = self.path / ".installed"

    def __str__(self) -> str:
        return f"Debian {self.release}"

    def command(self, *words: object, user: str | None = None) -> list[str]:
        """The command that runs these words in the folder."""
        who = [f"--userspec={user}"] if user else []
        return ["chroot", *who, str(self.path), *map(str, words)]

    def run(self, *words: object, user: str | None = None) -> str:
        """Run it to its end, and give what it printed; raises Unavailable."""
        return _run(self.command(*words, user=user))

    def uid(self, user: str) -> int:
        """The number of a user who is known there."""
        lines = self.path.joinpath("etc/passwd").read_text().splitlines()
        return next(int(line.split(":")[2]) for line in lines if line.startswith(f"{user}:"))

    def prepare(self) -> None:
        """Make it if need be, and mount what programs need; raises Unavailable.

        A folder that is there and whole is taken as it is.  The mounts are for this process and its
        children alone (__main__), so that nobody who removes the folder removes their content.
        """
        if os.geteuid() != 0:
            raise Unavailable(f"making {self} in a folder takes root")
        if not self.path.exists():
            self._bootstrap()
        self._mount()
        if not self._mark.exists():
            self._install()
            self._mark.touch()

    def _bootstrap(self) -> None:
        if shutil.which("debootstrap") is None:
            _run(["apt-get", "install", "-y", "-qq", "debootstrap"])
        script = SCRIPTS / self.release
        if not script.exists():
            script = SCRIPTS / "sid"
        print(f"{self} is made in {self.path}; it takes some minutes", flush=True)
        half = self.path.with_name(f"{self.release}.half")
        shutil.rmtree(half, ignore_errors=True)  # debootstrap does not go on where it was stopped
        half.mkdir(parents=True)
        _run([
            "debootstrap", "--no-check-gpg", "--variant=minbase", "--include=ca-certificates",
            self.release, str(half), archive(), str(script),
        ])  # fmt: skip
        for file in filter(os.path.exists, COPIED):
            shutil.copy(file, f"{half}{file}")
        policy = half / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # no server starts by being installed
        policy.chmod(0o755)
        half.rename(self.path)

    def _install(self) -> None:
        # A mirror of an archive may be weeks behind; it is refused as expired.
        stale = ("-o", "Acquire::Check-Valid-Until=false")
        quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-qq", *stale)
        self.run(*quiet, "update")
        self.run(*quiet, "install", "--no-install-recommends", *PACKAGES)

    def _mount(self) -> None:
        _run(["mount", "-t", "proc", "proc", str(self.path / "proc")])
        _run(["mount", "--rbind", "/dev", str(self.path / "dev")])
        self.bind(Path("/tmp"))

    def bind(self, folder: Path) -> None:
        """Let the folder see one of the host's, under the same path."""
        inside = self.path / folder.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        _run(["mount", "--bind", str(folder), str(inside)])


def archive() -> str:
    """The URI of the archive that this system's own packages come from; raises Unavailable."""
    said = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    if not said.strip():
        raise Unavailable("apt knows no archive on this system")
    return said.split()[0]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise Unavailable(f"there is no {command[0]} here") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"{' '.join(command[:2])} failed: {' '.join(last)}")
    return done.stdout
