"""What every run came to: one file that grows block by block, and loses nothing that it once held."""

from __future__ import annotations

import csv
import gzip
from io import StringIO
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from surefoot import whole
from surefoot.appended import Appended, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAME = "runs.csv"
DIVERGED, FAILED = 2.0, 1.01
"""Multiples of what counted before training."""
LARGEST = 1_000_000
"""Bytes above which a finished file is compressed."""


class Key(NamedTuple):
    """Which run it is."""

    arena: str
    limits: str
    policy: str
    rate: float
    seed: int


class RunRow(NamedTuple):
    """A run.

    Attributes:
        key: Which one.
        before: What counts, before training.
        final: What counts, at the end; infinite if the run did not get there.
        held_out: The held-out loss at the end, likewise.
        curve: Held-out losses on the way, evenly spaced; empty if nobody asked.
        rates: Rates on the way, likewise.
    """

    key: Key
    before: float
    final: float
    held_out: float
    curve: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()

    @property
    def has_diverged(self) -> bool:
        """Whether it did not get to the end, or ended at more than twice what it was before training."""
        return not self.final <= DIVERGED * self.before

    @property
    def has_failed(self) -> bool:
        """Whether it diverged, or ended above where it began."""
        return not self.final <= FAILED * self.before

    @property
    def value(self) -> float:
        """What counts; of a run that failed, what it was before training."""
        return self.before if self.has_failed else self.final


_HEAD = (*Key._fields, *RunRow._fields[1:])


class Rows(Appended[dict[Key, RunRow]]):
    """The rows of a folder. Rows that are added together are there, all of them, once `add` has returned.

    A finished file above a megabyte is compressed; it is opened like any other.

    >>> from tempfile import TemporaryDirectory
    >>> row = RunRow(Key("unseen", "plain", "wsd", 0.5, 7), before=0.9, final=0.1, held_out=0.2)
    >>> with TemporaryDirectory() as folder, Rows(folder) as rows:
    ...     rows.add([row])
    ...     Rows.read(folder)[row.key].final
    0.1

    Attributes:
        there: The rows by key.

    Args:
        folder: Where the file is, or will be; the folder exists.

    Raises:
        JournalError: The file holds something else, or another process is writing to it.
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / NAME
        packed = path.with_suffix(".csv.gz")
        if packed.exists() and not path.exists():
            whole.write(path, gzip.decompress(packed.read_bytes()))
        super().__init__(path, lambda file: _parsed(file, file.read_bytes()))
        self.there = dict(self.found)

    def add(self, rows: Iterable[RunRow]) -> None:
        """Write rows, and wait until the disk has them."""
        added = list(rows)
        lines: list[tuple[str, ...]] = [] if self.there else [_HEAD]
        lines += [tuple(_text(value) for value in (*row.key, *row[1:])) for row in added]
        self.append(_encoded(lines))
        self.there |= {row.key: row for row in added}

    def finish(self) -> Path:
        """Compress the file if it is large, and return where it is."""
        data, packed = self.path.read_bytes(), self.path.with_suffix(".csv.gz")
        if len(data) <= LARGEST:
            packed.unlink(missing_ok=True)
            return self.path
        whole.write(packed, gzip.compress(data, mtime=0))
        self.path.unlink()
        return packed

    @staticmethod
    def read(folder: str | Path) -> dict[Key, RunRow]:
        """The rows of a folder, which nobody needs to be able to write to.

        Raises:
            JournalError: There are none, or the file holds something else.
        """
        path = Path(folder) / NAME
        packed = path.with_suffix(".csv.gz")
        if not (path.exists() or packed.exists()):
            raise JournalError(f"there are no rows in {folder}; name a folder that `surefoot judge` made")
        return _parsed(path, path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes()))


def _parsed(path: Path, data: bytes) -> dict[Key, RunRow]:
    try:
        text = data[: data.rfind(b"\n") + 1].decode()
        lines = list(csv.DictReader(StringIO(text)))
        rows = [_row(*(line[name] for name in _HEAD)) for line in lines]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise JournalError(f"{path} does not hold the rows of a judgement; name another folder") from error
    return {row.key: row for row in rows}


def _row(arena: str, limits: str, policy: str, rate: str, seed: str, *others: str) -> RunRow:
    before, final, held_out, curve, rates = others
    key = Key(arena, limits, policy, float(rate), int(seed))
    return RunRow(key, float(before), float(final), float(held_out), _numbers(curve), _numbers(rates))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split())


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{number:.4g}" for number in value)
    return repr(value) if isinstance(value, float) else str(value)


def rounded(value: float) -> float:
    """With as many digits as are kept: a run that is read back is the run that was made."""
    return float(f"{value:.6g}") if isfinite(value) else inf


def _encoded(lines: Iterable[Sequence[str]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
