"""A training as it is told while it goes on: a table that lives in a terminal, lines everywhere else."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.progress_bar import ProgressBar

from surefoot import tables
from surefoot.terminal import err, say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.table import Table

    from surefoot.learn import Record

_BARS = "\N{LOWER ONE EIGHTH BLOCK}▂▃▄▅▆▇\N{FULL BLOCK}"
_WIDTH = 24


class Telling:
    """Tells where trainings stand, on standard error."""

    def __init__(self, seeds: Iterable[int], of: int) -> None:
        self.records: dict[int, Record] = {}
        self._seeds, self._of, self._began = list(seeds), of, monotonic()
        self._live = Live(console=err, refresh_per_second=4) if err.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, record: Record, *, is_new: bool = True) -> None:
        """Tell where the training of a seed stands; what is not new is only shown in the table."""
        self.records[record.seed] = record
        if self._live is not None:
            self._live.update(self._table())
        elif is_new:
            say(line(record))

    def _table(self) -> Table:
        table = tables.plain("seed", "", "round", "reward", "curve", "diverged", "behind", "best", "time")
        for seed in self._seeds:
            record = self.records.get(seed)
            if record is None:
                table.add_row(str(seed), ProgressBar(self._of, 0, width=12), f"0/{self._of}")
                continue
            last = record.curve[-1]
            table.add_row(
                str(seed),
                ProgressBar(record.of, record.done, width=12),
                f"{record.done}/{record.of}",
                f"{last['reward']:.3f}",
                sparks([each["reward"] for each in record.curve]),
                f"{last['diverged']} of {last['episodes']}",
                _behind(record),
                f"{record.best['score']:+.3f}" if record.best else "",
                _clock(record.seconds),
            )
        return table


def line(record: Record) -> str:
    """Where a training stands, in a line."""
    last = record.curve[-1]
    told = (
        f"seed {record.seed}: round {record.done}/{record.of}, reward {last['reward']:.3f}, "
        f"{last['diverged']} of {last['episodes']} episodes diverged, {_clock(record.seconds)}"
    )
    check = last.get("check")
    return told if check is None else f"{told}; behind the tuned schedule by {check['mean']:+.3f}, {check['diverged']} diverged"


def sparks(values: list[float]) -> str:
    """A curve in one line of text, the last values if there are many.

    >>> sparks([0.0, 1.0, 2.0, 7.0])
    '▁▂▃█'
    """
    shown = values[-_WIDTH:]
    low, high = min(shown), max(shown)
    return "".join(_BARS[int((len(_BARS) - 1) * (value - low) / ((high - low) or 1.0))] for value in shown)


def _behind(record: Record) -> str:
    checks: list[Any] = [each["check"] for each in record.curve if "check" in each]
    return f"{checks[-1]['mean']:+.3f}" if checks else ""


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
