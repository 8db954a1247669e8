"""One JSON object on each line, in a file that loses nothing that it once held."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.appended import Appended, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable

Line = dict[str, Any]


class Journal(Appended[list[Line]]):
    """One JSON object on each line. Lines that are added together are there, all of them, once `add` has returned.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Journal(f"{folder}/journal.jsonl") as journal:
    ...     journal.add([{"rule": "block"}])
    ...     read(journal.path)
    [{'rule': 'block'}]

    Attributes:
        lines: What it held when it was opened, and what was added since.

    Args:
        path: The file, made if it is not there; its folder exists.

    Raises:
        JournalError: The file is no journal, its folder does not exist, or another process is writing to it.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, read)
        self.lines = list(self.found)

    def add(self, lines: Iterable[Line]) -> None:
        """Write lines, and wait until the disk has them."""
        added = list(lines)
        self.append("".join(encoded(line) for line in added))
        self.lines += added


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
