"""The file of the log: whole lines of several processes, and a worker that goes on without it.

logrotate may move the file away or cut it: the next line goes into a new file, or to the new end.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from frappe_jobs.errors import ConfigError

logger = logging.getLogger(__name__)

#: Who may read it beside its owner: the group, as logs of other services.
MODE = 0o640

#: The file descriptor of standard error, where lines go that the file does not take.
STDERR = 2


class LogFile(logging.Handler):
    """Appends each record in one call, so that lines of several processes do not mix."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._descriptor = -1
        #: Which file that is: another one may have its name by now.
        self._file: tuple[int, int] | None = None
        #: Part of a line was written, and the disk was full.
        self._is_torn = False
        self._fault = ""
        self._elsewhere = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, and never waits: a log that cannot be written keeps no job from running."""
        try:
            data = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
        except Exception:  # whatever a job has logged
            self.handleError(record)
            return
        try:
            self._open_if_moved()
            self._write(data)
        except OSError as error:
            self._note(error)
            _complain(data)
            self._elsewhere += 1
            return
        if self._fault:
            self._note_return()

    def open(self) -> None:
        """Open the file, or another one that has its name by now; raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        flags |= os.O_NONBLOCK | os.O_NOCTTY  # it may be a pipe that nobody reads
        descriptor = os.open(self._path, flags, MODE)
        old, self._descriptor = self._descriptor, descriptor
        status = os.fstat(descriptor)
        self._file = status.st_dev, status.st_ino
        if old >= 0:
            os.close(old)

    def close(self) -> None:
        descriptor, self._descriptor, self._file = self._descriptor, -1, None
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def _open_if_moved(self) -> None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            self.open()
            return
        if (status.st_dev, status.st_ino) != self._file:
            self.open()

    def _write(self, data: bytes) -> None:
        data = b"\n" + data if self._is_torn else data
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        finally:
            if left and len(left) < len(data):
                self._is_torn = True
        self._is_torn = False

    def _note(self, error: OSError) -> None:
        """Say why, once, until it can be written again."""
        fault = error.strerror or str(error)
        if fault != self._fault:
            self._fault = fault
            said = f"{self._path} cannot be written ({fault}); the log goes to standard error"
            _complain(f"{said}\n".encode("utf-8", "backslashreplace"))

    def _note_return(self) -> None:
        self._fault, count, self._elsewhere = "", self._elsewhere, 0
        text = "this file could not be written: %s records went to standard error"
        logger.warning(text, count)


def _complain(data: bytes) -> None:
    try:
        os.write(STDERR, data)
    except OSError:  # it is closed, or nobody reads it any more: nothing is left to say it to
        return


def find_log_file(name: str, folder: Path) -> Path:
    """The file of that name: a bare name lies in the bench's ``logs``, which is made.

    Raises ConfigError if it cannot be written.
    """
    path = Path(name)
    path = folder / "logs" / name if path.name == name else path.absolute()
    try:
        if path.name == name:
            path.parent.mkdir(exist_ok=True)
        file = LogFile(path)
        file.open()
        file.close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The log file {str(path)!r} cannot be written: {why}. Name another one with "
            "--log-file, or the setting 'frappe_jobs_log_file'."
        ) from None
    return path
