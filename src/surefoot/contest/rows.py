"""What every run of the comparison came to: one Parquet file for each task and optimizer, replaced whole or not at all."""

from __future__ import annotations

import json
from io import BytesIO
from math import inf, isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import document, whole
from surefoot.appended import Appended, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import polars as pl

FOLDER, NAME = "rows", "contest.json"
FORMAT = 1
"""Goes up when what is in the files changes."""


class RunKey(NamedTuple):
    """Which run of a cell it is.

    Attributes:
        rival: Name of the rival.
        rate: Its base rate; `surefoot.contest.rivals.FOUND` where the rival finds it.
        seed: Seed of the initial weights and of the order of batches.
    """

    rival: str
    rate: float
    seed: int


class ContestRow(NamedTuple):
    """A run. Losses are held-out ones, means of the last three evaluations; of a run that did not get there, infinite.

    Attributes:
        key: Which one.
        final: The loss at the end of the budget T.
        half, double: The same at T / 2 and at 2 T, with the rates planned for T; NaN where the run was not asked for them.
        curve: Losses at evenly spaced steps until T, unsmoothed; empty where nobody asked.
        rates: Rates on the way, likewise.
        forwards: Forward passes per step, on average.
        seconds: Processor time, the run's equal share of that of its block; NaN in rows of before it was kept.
    """

    key: RunKey
    final: float
    half: float = nan
    double: float = nan
    curve: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    forwards: float = 1.0
    seconds: float = nan

    @property
    def is_long(self) -> bool:
        """Whether the run went on to twice its budget."""
        return self.double == self.double  # Not NaN.


class CellName(NamedTuple):
    """A task under an optimizer, by their names."""

    task: str
    optimizer: str


class Rows:
    """The rows of a folder, by cell. Those that are added together are there, all of them, once `add` has returned.

    >>> from tempfile import TemporaryDirectory
    >>> cell, row = CellName("digits-mlp", "sgd"), ContestRow(RunKey("wsd", 0.1, 7), final=0.25)
    >>> with TemporaryDirectory() as folder:
    ...     with Rows(folder, {"task digits-mlp": "1f"}) as rows:
    ...         rows.add(cell, [row])
    ...     with Rows(folder, {"task digits-mlp": "1f", "rival step": "0a"}) as rows:
    ...         rows.of(cell)[row.key].final
    0.25

    Args:
        folder: Made if it is not there.
        definitions: What rows depend on, by name, each in a few characters: a folder where one of them was another is refused.

    Raises:
        JournalError: A definition has changed, a file cannot be read, or another process is writing to the folder.
    """

    def __init__(self, folder: str | Path, definitions: Mapping[str, str]) -> None:
        self.folder = Path(folder)
        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        self._lock = Appended(self.folder / FOLDER / ".lock", lambda _: None)
        try:
            self._there = _read(self.folder, definitions)
            known = {**_known(self.folder), **definitions}
            document.write(self.folder / NAME, json.dumps({"format": FORMAT, "definitions": known}, indent=1) + "\n")
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, traceback)

    def __len__(self) -> int:
        return sum(map(len, self._there.values()))

    def of(self, cell: CellName) -> Mapping[RunKey, ContestRow]:
        """The rows of a cell."""
        return self._there.get(cell, {})

    def add(self, cell: CellName, rows: Iterable[ContestRow]) -> None:
        """Put rows into the file of their cell; a row of the same key is replaced."""
        every = {**self.of(cell), **{row.key: row for row in rows}}
        packed = BytesIO()
        as_table(list(every.values())).write_parquet(packed, compression="zstd", compression_level=12)
        whole.write(self.folder / FOLDER / f"{cell.task}.{cell.optimizer}.parquet", packed.getvalue())
        self._there[cell] = every

    @staticmethod
    def read(folder: str | Path, definitions: Mapping[str, str]) -> dict[CellName, dict[RunKey, ContestRow]]:
        """The rows of a folder, which nobody needs to be able to write to.

        Raises:
            JournalError: There are none, a definition has changed, or a file cannot be read.
        """
        if not (Path(folder) / NAME).is_file():
            raise JournalError(f"there are no rows in {folder}; name a folder that `surefoot contest run` made")
        return _read(Path(folder), definitions)


def definitions(folder: Path) -> dict[str, str]:
    """The definitions that the rows of a folder were made under.

    Raises:
        JournalError: There are no rows there, or of another format.
    """
    if not (folder / NAME).exists():
        raise JournalError(f"there are no rows in {folder}; name a folder that `surefoot contest run` made")
    return _known(folder)


def _known(folder: Path) -> dict[str, str]:
    if not (folder / NAME).exists():
        return {}
    try:
        known = json.loads((folder / NAME).read_text("utf-8"))
        number, definitions = known["format"], {str(name): str(value) for name, value in known["definitions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{folder / NAME} does not say which study this is; name another folder") from error
    if number != FORMAT:
        raise JournalError(f"{folder} holds rows of format {number}, and this version reads {FORMAT}; name another folder")
    return definitions


def _read(folder: Path, definitions: Mapping[str, str]) -> dict[CellName, dict[RunKey, ContestRow]]:
    known = _known(folder)
    if changed := [name for name, value in definitions.items() if known.get(name, value) != value]:
        raise JournalError(
            f"{folder} holds runs of another {changed[0]} than that of today, which cannot be compared; name another folder"
        )
    cells = {}
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        task, _, optimizer = path.stem.rpartition(".")
        rows = _rows(path)
        cells[CellName(task, optimizer)] = {row.key: row for row in rows}
    return cells


def _rows(path: Path) -> list[ContestRow]:
    import polars as pl

    try:
        table = pl.read_parquet(path)
        if "seconds" not in table.columns:
            table = table.with_columns(seconds=nan)
        columns = [table[name].to_list() for name in (*RunKey._fields, *ContestRow._fields[1:])]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise JournalError(f"{path} does not hold the rows of a comparison; remove it, or name another folder") from error
    return [
        ContestRow(RunKey(rival, rate, seed), final, half, double, tuple(curve), tuple(rates), forwards, seconds)
        for rival, rate, seed, final, half, double, curve, rates, forwards, seconds in zip(*columns, strict=True)
    ]


def as_table(rows: Sequence[ContestRow]) -> pl.DataFrame:
    """Rows as a table, one column for each field."""
    import polars as pl

    lists = pl.List(pl.Float32)
    schema: dict[str, Any] = {"rival": pl.String, "rate": pl.Float64, "seed": pl.Int64}
    schema |= dict.fromkeys(("final", "half", "double"), pl.Float64) | {"curve": lists, "rates": lists}
    schema |= dict.fromkeys(("forwards", "seconds"), pl.Float64)
    return pl.DataFrame([(*row.key, *row[1:]) for row in sorted(rows)], schema=schema, orient="row")


def rounded(value: float) -> float:
    """With as many digits as are kept; infinite if it is no number."""
    return float(f"{value:.7g}") if isfinite(value) else inf
