"""A file that grows by whole lines, and loses nothing that it once held."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, where two writers are not told of each other.
    flock = None  # type: ignore[assignment]


T = TypeVar("T")


class JournalError(RuntimeError):
    """A file of results cannot be opened or read; the message says which, why, and what to do."""


class Appended(Generic[T]):
    r"""A text that is written to by this process alone. What is appended is there, all of it, once `append` has returned.

    If the process or the machine dies in the middle of it, the line that is not whole is cut off when the file is opened again.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "results"
    ...     _ = path.write_text("whole\nhal")
    ...     with Appended(path, Path.read_text) as file:
    ...         file.append("and more\n")
    ...     file.found, path.read_text()
    ('whole\nhal', 'whole\nand more\n')

    Attributes:
        path: The file.
        found: What it held when it was opened, as `read` read it.

    Args:
        path: The file, made if it is not there; its folder exists.
        read: Reads the file, before anything is cut off; what it raises leaves the file as it was.

    Raises:
        JournalError: The folder does not exist, or another process is writing to the file.
    """

    def __init__(self, path: str | Path, read: Callable[[Path], T]) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise JournalError(f"the folder of {self.path} does not exist; make it first")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self.found = read(self.path)
            os.ftruncate(self._file, self.path.read_bytes().rfind(b"\n") + 1)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._file)

    def append(self, text: str) -> None:
        """Write whole lines, and wait until the disk has them."""
        left = memoryview(text.encode())
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)

    def _lock(self) -> None:
        if flock is not None:
            try:
                flock(self._file, LOCK_EX | LOCK_NB)
            except BlockingIOError as error:
                raise JournalError(f"another process is writing to {self.path}; wait for it, or name another file") from error
