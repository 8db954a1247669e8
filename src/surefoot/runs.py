"""Finished trainings, and the one file that keeps them."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from zlib import crc32

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

APPLICATION_ID = 0x53555245  # "SURE", so that another program's database is not taken for a store.
SCHEMA_VERSION = 1
CHUNK_ROWS = 4096
SCHEMA = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, trial TEXT NOT NULL, status TEXT NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE chunk (
    run INTEGER NOT NULL REFERENCES run, series TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    data BLOB NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (run, series, first)
) WITHOUT ROWID;
"""


_SIGNAL = "signal:"
_UNSAID = (("weights", ""), ("ranks", 1))
"""What a trial is written without, as those were that were kept before it could be otherwise."""


class StoreError(RuntimeError):
    """A store cannot be opened, read or written; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Trial:
    """Everything that determines a training: two trials with the same `key` give the same run.

    Attributes:
        problem: The problem's name.
        revision: The revision of its definition.
        optimizer: The optimizer's name.
        policy: The policy as `surefoot.spec.to_dict` writes it.
        base: The base rate.
        steps: The budget in optimizer steps.
        evaluations: How many times the held-out loss is taken on the way, evenly spaced, the last one at the end.
        seed: Seed of initialisation and batch order.
        version: The versions of surefoot and of what it trains with.
        weights: Checksums of the files that the policy, or a part of it, was learned into; empty if it was not learned.
        ranks: How many processes trained it together.
    """

    problem: str
    revision: int
    optimizer: str
    policy: dict[str, Any]
    base: float
    steps: int
    evaluations: int
    seed: int
    version: str
    weights: str = ""
    ranks: int = 1

    @property
    def key(self) -> str:
        """64 hexadecimal digits that identify the trial."""
        return sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """One line with sorted names; without weights where there are none, and without ranks where there is one."""
        told = {name: value for name, value in asdict(self).items() if (name, value) not in _UNSAID}
        return json.dumps(told, sort_keys=True, allow_nan=False)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Attributes:
        trial: What was trained, and how.
        loss: Training loss of each step's batch, before the step; shape (steps made,).
        rate: Learning rate of each step; shape (steps made,).
        held_out_step: Steps made when the held-out loss was taken; shape (evaluations made,).
        held_out: Held-out loss; shape (evaluations made,).
        status: `"finished"`, or `"diverged"` if a loss was not finite (or beyond float32, the precision that is kept).
        seconds: Wall-clock time of the training.
        signals: What else was measured of each step, by name, such as `alignment`; each of shape (steps made,). Mostly nothing:
            it is kept where a policy that sees more than losses shall learn from the run.
    """

    trial: Trial
    loss: NDArray[np.float32]
    rate: NDArray[np.float32]
    held_out_step: NDArray[np.float32]
    held_out: NDArray[np.float32]
    status: Literal["finished", "diverged"]
    seconds: float
    signals: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class Store:
    """A file of finished runs: SQLite with a write-ahead log, float32 chunks with checksums.

    A run is written whole or not at all, also when the process is killed. Several processes may read and write at once, on a
    local disk. A run whose trial is there already is left as it is. In a folder that cannot be written to, a store can be read.

    >>> with Store(":memory:") as store:
    ...     len(store)
    0

    Args:
        path: The file, made if it is not there; `":memory:"` keeps nothing.

    Raises:
        StoreError: The file is no store of runs, or cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        if self.path != ":memory:" and not Path(self.path).parent.is_dir():
            raise StoreError(f"the folder of {self.path} does not exist; make it first")
        with self._said_plainly():
            self._connection = sqlite3.connect(self._address(), timeout=60.0, isolation_level=None, uri=True)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        with self._said_plainly():
            return int(self._connection.execute("SELECT count(*) FROM run").fetchone()[0])

    def __contains__(self, trial: object) -> bool:
        if not isinstance(trial, Trial):
            return False
        with self._said_plainly():
            return self._connection.execute("SELECT 1 FROM run WHERE key = ?", (trial.key,)).fetchone() is not None

    def __iter__(self) -> Iterator[Run]:
        """All runs, in the order in which they were finished."""
        with self._said_plainly():
            rows = self._connection.execute("SELECT id, trial, status, seconds FROM run ORDER BY id").fetchall()
        for row in rows:
            yield self._read(*row)

    def get(self, trial: Trial) -> Run | None:
        """The trial's run, or None if it is not there.

        Raises:
            StoreError: It is there, but damaged.
        """
        with self._said_plainly():
            query = "SELECT id, trial, status, seconds FROM run WHERE key = ?"
            row = self._connection.execute(query, (trial.key,)).fetchone()
        return row and self._read(*row)

    def add(self, *runs: Run) -> None:
        """Keep runs, all of them or nothing."""
        with self._said_plainly(), self._transaction():
            for run in runs:
                self._insert(run)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _address(self) -> str:
        """Where the file is, as SQLite wants to be told; in a folder that cannot be written to, it is to be read as it is."""
        path = Path(self.path)
        if self.path == ":memory:":
            return self.path
        is_sealed = path.is_file() and not os.access(path.parent, os.W_OK)
        if is_sealed and path.with_name(f"{path.name}-wal").exists():
            raise StoreError(
                f"{path} was not closed in order, and its folder cannot be written to; copy all files whose names begin with "
                f"{path.name} to a folder that can"
            )
        return f"{path.absolute().as_uri()}{'?immutable=1' if is_sealed else ''}"

    def _open(self) -> None:
        self._connection.execute("PRAGMA busy_timeout = 60000")
        found = self._connection.execute("PRAGMA application_id").fetchone()[0]
        if found == 0 and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._create()
        elif found != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database, but not a store of surefoot runs; name another file")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} is a store of version {version}, and this surefoot reads version {SCHEMA_VERSION}; "
                "name another file"
            )

    def _create(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            if not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in filter(str.strip, SCHEMA.split(";")):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _insert(self, run: Run) -> None:
        steps = np.column_stack([run.loss, run.rate]).astype("<f4")
        held_out = np.column_stack([run.held_out_step, run.held_out]).astype("<f4")
        insert = "INSERT OR IGNORE INTO run (key, trial, status, seconds) VALUES (?, ?, ?, ?)"
        told = (run.trial.key, run.trial.to_json(), run.status, run.seconds)
        cursor = self._connection.execute(insert, told)
        if cursor.rowcount:
            measured = {f"{_SIGNAL}{name}": np.asarray(values, "<f4")[:, None] for name, values in run.signals.items()}
            for series, rows in {"steps": steps, "held_out": held_out, **measured}.items():
                self._add_chunks(int(cursor.lastrowid or 0), series, rows)

    def _add_chunks(self, run: int, series: str, rows: NDArray[np.float32]) -> None:
        for first in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[first : first + CHUNK_ROWS]
            data = chunk.tobytes()
            values = (run, series, first, len(chunk), data, crc32(data))
            self._connection.execute("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?)", values)

    def _read(self, run: int, trial: str, status: Literal["finished", "diverged"], seconds: float) -> Run:
        (loss, rate), (held_out_step, held_out) = (self._read_series(run, series).T for series in ("steps", "held_out"))
        config, signals = Trial(**json.loads(trial)), self._read_signals(run)
        return Run(config, loss, rate, held_out_step, held_out, status, seconds, signals)

    def _read_signals(self, run: int) -> dict[str, NDArray[np.float32]]:
        with self._said_plainly():
            query = "SELECT DISTINCT series FROM chunk WHERE run = ? AND series LIKE ? ORDER BY series"
            found = self._connection.execute(query, (run, f"{_SIGNAL}%")).fetchall()
        return {series.removeprefix(_SIGNAL): self._read_series(run, series, 1)[:, 0] for (series,) in found}

    def _read_series(self, run: int, series: str, columns: int = 2) -> NDArray[np.float32]:
        with self._said_plainly():
            query = "SELECT first, count, data, crc32 FROM chunk WHERE run = ? AND series = ? ORDER BY first"
            chunks = self._connection.execute(query, (run, series)).fetchall()
        parts, expected = [np.empty((0, columns), np.float32)], 0
        for first, count, data, checksum in chunks:
            if first != expected or crc32(data) != checksum or len(data) != 4 * columns * count:
                raise StoreError(f"run {run} in {self.path} is damaged: its checksum does not match; name another file")
            parts.append(np.frombuffer(data, "<f4").reshape(count, columns).astype(np.float32))
            expected += count
        return np.concatenate(parts)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise StoreError(f"{self.path} is not a store of surefoot runs; name another file") from error
            raise StoreError(f"the store {self.path} cannot be used: {error}") from error


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """When the held-out loss is taken: evenly spaced numbers of steps, the last one `steps`.

    >>> evaluation_steps(100, 4)
    [25, 50, 75, 100]
    """
    checks.whole("steps", steps, low=1)
    checks.whole("evaluations", evaluations, low=1)
    return sorted({max(1, round(steps * part / evaluations)) for part in range(1, evaluations + 1)})
