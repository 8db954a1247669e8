"""A file that grows line by line, and loses nothing that it once held."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, where two writers are not told of each other.
    flock = None  # type: ignore[assignment]

Line = dict[str, Any]


class JournalError(RuntimeError):
    """A journal cannot be opened or read; the message says which, why, and what to do."""


class Journal:
    """One JSON object on each line. Lines that are added together are there, all of them, once `add` has returned.

    If the process or the machine dies in the middle of it, the line that is not whole is cut off when the file is opened again.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Journal(f"{folder}/journal.jsonl") as journal:
    ...     journal.add([{"rule": "block"}])
    ...     read(journal.path)
    [{'rule': 'block'}]

    Attributes:
        path: The file.
        lines: What it held when it was opened, and what was added since.

    Args:
        path: The file, made if it is not there; its folder exists.

    Raises:
        JournalError: The file is no journal, its folder does not exist, or another process is writing to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise JournalError(f"the folder of {self.path} does not exist; make it first")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(self._file, self.path)
            self.lines = read(self.path)
            self._cut()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._file)

    def add(self, lines: Iterable[Line]) -> None:
        """Write lines, and wait until the disk has them."""
        added = list(lines)
        left = memoryview("".join(encoded(line) for line in added).encode())
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)
        self.lines += added

    def _cut(self) -> None:
        """Cut off what the last process left of a line."""
        whole = self.path.read_bytes()
        os.ftruncate(self._file, whole.rfind(b"\n") + 1)


def lock(file: int, path: Path) -> None:
    """Keep a file that is open for writing to this process, until it is closed.

    Raises:
        JournalError: Another process has it.
    """
    if flock is not None:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(f"another process is writing to {path}; wait for it, or name another file") from error


def read(path: str | Path) -> list[Line]:
    """The lines of a journal, also of a compressed one; a last line that is not whole is left out.

    Raises:
        JournalError: The file is no journal.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except (ValueError, lzma.LZMAError) as error:
        raise JournalError(f"{path} is not a journal, one JSON object on each line; name another file") from error
    if not all(isinstance(line, dict) for line in lines):
        raise JournalError(f"{path} is not a journal, one JSON object on each line; name another file")
    return lines


def encoded(line: Line) -> str:
    """A line as it is written."""
    return json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"
